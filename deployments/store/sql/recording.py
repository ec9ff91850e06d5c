"""What a transaction records: observations of answers, and the scores that feedback brings."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from deployments.store.observations import AnswerRecord, Observation, Scored
from deployments.store.sql.changes import Change, plain
from deployments.store.sql.chunks import chunks
from deployments.store.sql.schema import NO_QUERY, outcomes
from deployments.store.sql.sums import LengthPlace, Place, Sums
from deployments.store.sql.vectors import encoded

Item = tuple[Observation, AnswerRecord | None]


def query_rows(
    keys: Sequence[bytes], items: Sequence[Item], dimensions: int
) -> list[dict[str, Any]]:
    """A row of `queries` for each different key, in order of first mention.

    Args:
        keys: of each item's query.
        items: observations, each with the answer that it was made of, if feedback may come for it.
        dimensions: of the embeddings.

    Raises:
        ValueError: an embedding does not have these dimensions, or is not of length 1.
    """
    rows: dict[bytes, dict[str, Any]] = {}
    for key, (observation, _) in zip(keys, items, strict=True):
        row = rows.setdefault(key, {"key": key, "text": observation.query})
        row.setdefault("embedding", observation.embedding)
        if observation.input_tokens is not None or "input_tokens" not in row:
            row["input_tokens"] = plain(observation.input_tokens)
            row["characters"] = plain(observation.characters)
    vectors = encoded([row["embedding"] for row in rows.values()], dimensions)
    for row, vector in zip(rows.values(), vectors, strict=True):
        row["embedding"] = vector
    return list(rows.values())


def record(
    change: Change,
    query_ids: Sequence[int],
    items: Sequence[Item],
    alone: Sequence[AnswerRecord],
    identities: Mapping[str, str],
) -> None:
    """Adds observations to the outcomes of their queries, whose numbers are given for each, to the
    lengths of their shapes, and answers: those of the observations, and those that come alone."""
    known = change.answers(
        {answer.id for _, answer in items if answer} | {answer.id for answer in alone}
    )
    new: dict[str, tuple[int, AnswerRecord, float | None]] = {}
    sums: dict[Place, Sums] = {}
    lengths: dict[LengthPlace, Sums] = {}
    for query_id, (seen, answer) in zip(query_ids, items, strict=True):
        if answer is not None:
            if answer.id in known or answer.id in new:
                continue
            new[answer.id] = (query_id, answer, seen.quality)
        place = (query_id, seen.model, seen.source, seen.identity)
        if seen.replace or place not in sums:
            sums[place] = Sums(seen.replace)
        sums[place].add(seen, change.now)
        if seen.shape != "text":
            of_shape = (seen.model, seen.identity, seen.shape)
            lengths.setdefault(of_shape, Sums()).add_length(seen)
    for answer in alone:
        if answer.id not in known:
            new.setdefault(answer.id, (NO_QUERY, answer, None))
    change.put_outcomes(sums)
    change.put_lengths(lengths)
    change.put_answers(new.values())
    _adopt(change, identities, {*query_ids})
    change.mark_scored({at[0] for at, total in sums.items() if total.scored or total.replace})


def rescore(
    change: Change,
    scores: Sequence[tuple[str, float]],
    again: bool,
    replace: bool,
    identities: Mapping[str, str],
) -> list[tuple[int | None, Scored] | None]:
    """Sets the scores of answers, and corrects the outcomes of their queries.

    The arguments but `change`, and what is returned, are those of `Database.score`.
    """
    known = change.answers({id for id, _ in scores})
    existing = change.existing({query_id for query_id, _, _ in known.values()})
    results: list[tuple[int | None, Scored] | None] = []
    sums: dict[Place, Sums] = {}
    given: dict[str, float] = {}
    for id, score in scores:
        if id not in known:
            results.append(None)
            continue
        query_id, answer, replaced = known[id]
        before = None if again and replaced == score else replaced
        if before is not None and not replace:
            results.append(None)
            continue
        policy = None if answer.chosen is False else answer.policy
        scored = Scored(answer.model, answer.predicted, policy, before)
        results.append((query_id if query_id in existing else None, scored))
        if query_id in existing:
            place = (query_id, answer.model, "answers", answer.identity)
            sums.setdefault(place, Sums()).rescore(replaced, score, change.now)
        known[id] = (query_id, answer, score)
        given[id] = score
    change.put_outcomes(sums)
    change.put_scores(given, rated=not replace)
    changed = {query_id for query_id, *_ in sums}
    change.touch(changed)
    change.mark_scored(changed)
    _adopt(change, identities, changed)
    return results


def _adopt(change: Change, identities: Mapping[str, str], query_ids: Collection[int]) -> None:
    """Attributes what an import has lately said of queries that change now: they no longer look as
    if others had changed them, so nobody would do it later."""
    for part in chunks(sorted(query_ids)) if identities else ():
        change.adopt(identities, outcomes.c.query_id.in_(part))

"""Promise: the database keeps exactly what it is told, in SQLite and in PostgreSQL alike."""

import math
from typing import Any

import numpy as np
import pytest
import sqlalchemy
from observed import D, answered, outcomes, retained, scored, seen, vector

from deployments.store.evidence import Floats32
from deployments.store.observations import (
    MAX_QUERY_CHARACTERS,
    AnswerRecord,
    MeanLength,
    Observation,
    Outcome,
    Scored,
)
from deployments.store.sql.database import Database


def test_what_is_written_can_be_read_by_another_process(database: Database, store_url: str) -> None:
    (id,) = database.write(
        [seen(quality=0.5, output_tokens=20, seconds=1.5, input_tokens=9, characters=40)]
    )
    database.close()
    again = Database(store_url, "encoder", D)
    (row,) = again.read([id])
    again.close()
    assert (row.id, row.query, row.input_tokens) == (id, "Why?", 9)
    assert row.outcomes == {"small": Outcome(0.5, 20, 1)}
    np.testing.assert_allclose(row.embedding, vector("Why?"), atol=1e-3)
    assert np.linalg.norm(row.embedding) == pytest.approx(1, abs=1e-6)


def test_observations_of_one_query_are_averaged_by_count_over_all_sources(
    database: Database,
) -> None:
    first = database.write([seen(quality=1, output_tokens=10), seen(quality=0, output_tokens=20)])
    more = [
        seen(source="import:a", quality=0.75, output_tokens=40, count=2),
        seen(source="import:a", output_tokens=70),
        seen(model="large", seconds=3),
    ]
    assert database.write(more) == first
    assert database.count() == 1
    (row,) = database.read(first)
    assert row.outcomes["small"] == Outcome((1 + 0 + 2 * 0.75) / 4, (10 + 20 + 80 + 70) / 5, 4)
    assert row.outcomes["large"] == Outcome(None, None, 1)


def test_replacing_drops_what_the_same_source_said_and_nothing_else(database: Database) -> None:
    database.write([seen(source="import:a", quality=0, count=5), seen(quality=1)])
    database.write(
        [
            seen(source="import:a", quality=0.5, replace=True),
            seen(source="import:a", quality=1),
        ]
    )
    small = outcomes(database)["Why?"]["small"]
    assert small.quality == pytest.approx(2.5 / 3)
    assert (small.output_tokens, small.count) == (None, 3)


def test_ids_come_once_in_the_order_of_first_mention(database: Database) -> None:
    a, b = database.write([seen("a"), seen("b"), seen("a")])
    assert [row.query for row in database.read([a, b])] == ["a", "b"]
    assert database.write([seen("b"), seen("c"), seen("a")])[::2] == [b, a]


def test_feedback_scores_an_answer_and_a_second_score_replaces_the_first(
    database: Database,
) -> None:
    (id,) = database.write(
        [answered("x", predicted=0.7, policy="p", cost=0.01), answered("y"), answered("z")]
    )
    assert database.score([("x", 1.0), ("nobody's", 0.5)]) == [
        (id, Scored("small", 0.7, "p", None)),
        None,
    ]
    assert database.score([("x", 0.25), ("y", 0.5), ("y", 0.75)]) == [
        (id, Scored("small", 0.7, "p", 1.0)),
        (id, Scored("small", None, None, None)),
        (id, Scored("small", None, None, 0.5)),
    ]
    assert outcomes(database)["Why?"]["small"] == Outcome(0.5, 10, 2)


def test_feedback_for_an_answer_whose_query_is_not_kept_counts_for_its_policy(
    database: Database,
) -> None:
    alone = AnswerRecord("x", "small", 0.7, "p", 0.01)
    assert database.write([alone, AnswerRecord("y", "large")]) == []
    assert database.count() == database.stats()["outcomes"] == 0
    assert database.score([("x", 1.0), ("y", 0.5)]) == [
        (None, Scored("small", 0.7, "p", None)),
        (None, Scored("large", None, None, None)),
    ]
    # Some come with their queries, and a write may be repeated.
    (id,) = database.write([alone, answered("z"), AnswerRecord("w", "small")])
    assert database.score([("x", 0.25), ("z", 1.0)]) == [
        (None, Scored("small", 0.7, "p", 1.0)),
        (id, Scored("small", None, None, None)),
    ]
    assert outcomes(database) == {"Why?": {"small": Outcome(1.0, 10, 1)}}
    assert database.stats()["answers"] == 4


def test_feedback_for_an_answer_by_fallback_counts_for_its_model_but_for_no_policy(
    database: Database,
) -> None:
    _, id = database.write(
        [
            answered("first", predicted=0.7, policy="p", chosen=True),
            answered("other", "How?", predicted=0.7, policy="p", chosen=False),
        ]
    )
    assert scored(database, "first", 1.0)[1] == Scored("small", 0.7, "p", None)
    assert scored(database, "other", 0.5) == (id, Scored("small", 0.7, None, None))
    assert outcomes(database)["How?"] == {"small": Outcome(0.5, 10, 1)}


def test_answers_of_other_shapes_teach_quality_but_no_length_of_their_query(
    database: Database,
) -> None:
    json = seen(quality=1, output_tokens=2000, seconds=60, shape="json")
    database.write([answered("x"), (json, AnswerRecord("y", "small"))])
    assert outcomes(database)["Why?"]["small"] == Outcome(1, 10, 1)
    stats = database.stats()["models"]["small"]
    assert (stats["answers"], stats["output_tokens"], stats["seconds"]) == (2, 10, None)


def test_lengths_of_other_shapes_are_averaged_over_all_queries_of_a_model(store_url: str) -> None:
    names = {"small": "openai/small", "large": "openai/large"}
    database = Database(store_url, "encoder", D, identities=names)

    def told(id: str, model: str, shape: str, tokens: float | None) -> None:
        answer = seen(id, model, identity=names[model], shape=shape, output_tokens=tokens)
        database.write([(answer, AnswerRecord(id, model))])

    told("a", "small", "json", 20)
    told("a", "small", "json", 20)  # written again: counts once
    told("b", "small", "json", 40)
    told("c", "small", "json", None)
    told("d", "small", "tools", 7)
    told("e", "small", "text", 500)
    told("f", "large", "json", 90)
    assert database.lengths() == [
        MeanLength("large", "json", 90, 1),
        MeanLength("small", "json", 30, 2),
        MeanLength("small", "tools", 7, 1),
    ]
    database.close()


def test_feedback_replaces_the_quality_that_came_with_the_answer(database: Database) -> None:
    database.write([(seen(quality=0.0), AnswerRecord("x", "small")), seen(quality=1.0)])
    assert scored(database, "x", 1.0)[1].replaced == 0.0
    assert outcomes(database)["Why?"]["small"] == Outcome(1.0, None, 2)


def test_a_query_keeps_its_embedding_and_its_latest_known_prompt_length(database: Database) -> None:
    database.write([seen(input_tokens=10, characters=30), seen("How?")])
    database.write([seen(input_tokens=20, characters=90), seen()])
    assert [row.input_tokens for batch in database.rows() for row in batch] == [20, None]
    assert database.tokens_per_character() == pytest.approx(20 / 90)
    why, what = database.embeddings(["Why?", "What?"])
    assert why is not None
    np.testing.assert_allclose(why, vector("Why?"), atol=1e-3)
    assert what is None


def test_an_empty_database(database: Database) -> None:
    assert list(database.rows()) == []
    assert database.read([1]) == []
    assert database.write([]) == []
    assert database.score([]) == []
    assert database.changed_by_others(0) == database.retain() == []
    assert database.count() == 0
    assert database.tokens_per_character() is None
    assert database.stats()["models"] == {}


def test_more_rows_than_one_statement_can_take(database: Database) -> None:
    queries = [f"query {number}" for number in range(3000)]
    ids = database.write([seen(query, quality=1, output_tokens=5) for query in queries])
    batches = list(database.rows())
    assert len(batches) > 1
    assert [row.id for batch in batches for row in batch] == sorted(ids)
    assert {row.query for row in database.read(ids)} == set(queries)
    assert all(vector is not None for vector in database.embeddings(queries))
    answers = [answered(f"id {number}", "one") for number in range(1500)]
    database.write(answers)
    assert all(database.score([(answer.id, 1.0) for _, answer in answers]))
    assert len(retained(database, 0)) == 3001
    assert database.count() == 0


def test_any_text_can_be_a_query(database: Database) -> None:
    texts = ["日本語 🙂 " * 5, "nul \0 in it", "half \ud83d a character", "'; DROP TABLE queries"]
    ids = database.write([seen(text, quality=1) for text in texts])
    assert database.write([seen(text, quality=0) for text in texts]) == ids
    assert [row.outcomes["small"].count for row in database.read(ids)] == [2] * 4
    assert {row.query for row in database.read(ids)} >= {texts[0], texts[3]}


def test_numbers_may_be_numpy_scalars(database: Database) -> None:
    half: Any = np.float32(0.5)
    ten, two = np.float32(10), np.int64(2)
    known: dict[str, Any] = {
        "quality": half,
        "output_tokens": ten,
        "seconds": ten,
        "input_tokens": two,
    }
    database.write([seen(count=two, characters=two, **known)])
    database.write(
        [(seen("b", characters=two, **known), AnswerRecord("x", "small", half, "p", half))]
    )
    assert database.score([("x", half)]) == [(2, Scored("small", 0.5, "p", 0.5))]
    assert outcomes(database)["Why?"]["small"] == Outcome(0.5, 10, 2)
    assert database.stats()["models"]["small"]["seconds"] == 10
    assert database.tokens_per_character() == 1


@pytest.mark.parametrize("id", ["", "nul \0", "half \ud83d", "x" * 10**6, "'; DROP TABLE answers"])
def test_feedback_for_an_id_that_no_answer_can_have(database: Database, id: str) -> None:
    database.write([answered("x")])
    assert database.score([(id, 1.0), ("x", 1.0)])[0] is None


def test_a_long_query_is_cut_and_identified_by_the_rest(memory: Database) -> None:
    long = "word " * 100_000
    assert len(seen(long).query) == MAX_QUERY_CHARACTERS  # before it is written, too
    assert memory.write([seen(long)]) == memory.write([seen(long + "and more")])
    assert len(memory.read([1])[0].query) == MAX_QUERY_CHARACTERS


def test_a_write_or_a_score_of_unknown_outcome_can_be_repeated(database: Database) -> None:
    pair = answered("x")
    (id,) = database.write([pair, answered("y")])
    database.score([("x", 0.5)])
    assert database.write([pair, answered("z"), answered("z")]) == [id]
    assert outcomes(database)["Why?"]["small"] == Outcome(0.5, 10, 1)
    assert database.stats()["models"]["small"]["answers"] == 3
    # The stored score is taken for the one being written, so it replaced none.
    (known,) = database.score([("x", 0.5)], again=True)
    assert known == (id, Scored("small", None, None, None))
    assert database.score([("x", 0.5)], again=True, replace=False) == [known]
    assert database.score([("x", 0.6)], again=True, replace=False) == [None]
    assert scored(database, "x", 1.0, again=True)[1].replaced == 0.5
    assert outcomes(database)["Why?"]["small"] == Outcome(1.0, 10, 1)


def test_a_failed_write_leaves_nothing_behind(database: Database) -> None:
    broken = Observation("new", vector("new"), None, "answers")  # type: ignore[arg-type]
    with pytest.raises(sqlalchemy.exc.IntegrityError) as caught:
        database.write([seen("good"), broken])
    assert "good" not in str(caught.value)  # users' queries don't belong in a log
    assert database.count() == database.revision() == 0


def test_statistics(database: Database) -> None:
    database.write(
        [
            seen("a", "small", quality=1, output_tokens=10, seconds=2),
            seen("b", "small", "import:x", output_tokens=30, count=3),
            seen("a", "large", "import:x", quality=0.5),
            seen("a", "small", output_tokens=40, shape="json"),
        ]
    )
    database.write([answered("x", "a", "large")])
    stats = database.stats()
    assert (stats["queries"], stats["outcomes"], stats["answers"]) == (2, 4, 1)
    assert stats["models"]["small"] == {
        "queries": 2,
        "answers": 5,
        "scored": 1,
        "quality": 1,
        "output_tokens": 25,
        "seconds": 2,
        "shapes": {"json": {"output_tokens": 40, "seconds": None}},
        "identities": {"": 5},
    }
    assert stats["sources"] == {"answers": 3, "import:x": 4}
    assert stats["embedding_model"] == "encoder"
    assert stats["bytes"] > 0


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"quality": math.nan}, "quality must be a number"),
        ({"quality": 1.01}, "between 0 and 1"),
        ({"quality": -0.01}, "quality must be"),
        ({"output_tokens": -1}, "output_tokens must be"),
        ({"output_tokens": math.inf}, "output_tokens must be"),
        ({"seconds": -1}, "seconds must be"),
        ({"input_tokens": -1}, "input_tokens must be"),
        ({"characters": -1}, "characters must be"),
        ({"count": 0}, "at least 1"),
    ],
)
def test_an_invalid_observation_is_refused(known: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        seen(**known)


@pytest.mark.parametrize("score", [math.nan, -0.1, 1.1])
def test_an_invalid_score_is_refused(memory: Database, score: float) -> None:
    memory.write([answered("x")])
    with pytest.raises(ValueError, match="between 0 and 1"):
        memory.score([("x", 1.0), ("x", score)])
    assert outcomes(memory)["Why?"]["small"].quality is None


@pytest.mark.parametrize(
    ("embedding", "message"),
    [
        (np.ones(D + 1) / 3, r"\(8,\), not \(9,\)"),
        (np.zeros(D), "length 1"),
        (np.full(D, np.nan), "length 1"),
    ],
)
def test_an_invalid_embedding_is_refused(
    memory: Database, embedding: Floats32, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        memory.write([Observation("Why?", embedding, "small", "answers")])
    assert memory.count() == 0

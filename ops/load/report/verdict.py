"""What the figures say, in plain words, and what to know before believing them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from ops.load.report.reading import DROPPED, Run, Slo
from ops.load.report.text import percent

_LATE_S = 0.05
_SLOW = 1.2
_MOST_DEPLOYMENTS = 3
_LIMITS = {
    "ttft_s": "first token within {:g} s",
    "tpot_s": "at most {:g} s per token",
    "e2e_s": "ended within {:g} s",
}


def goal(slo: Slo) -> str:
    """What makes a request good."""
    limits = [
        text.format(limit)
        for name, text in _LIMITS.items()
        if (limit := getattr(slo, name)) is not None
    ]
    return ", ".join(["answered without an error", *limits])


def verdict(report: Mapping[str, Any], slo: Slo) -> list[str]:
    """Sentences; the first one says whether the goal was met. Of the deployments, those are named
    that used the most replica-seconds for what they did."""
    whole = report["whole"]
    if not whole["requests"]:
        return ["No request was sent, so there is nothing to judge."]
    met = whole["goodput"] >= slo.share
    sentences = [
        f"{percent(whole['goodput'])} of {whole['requests']:,} requests were good "
        f"(goal {percent(slo.share)}: {'met' if met else 'missed'}). Good means {goal(slo)}."
    ]
    sentences.append(
        f"{_counted(whole['failed'], 'request')} failed."
        if whole["failed"]
        else "No request failed."
    )
    sentences += map(_reaction, report["reactions"])
    ratios = {name: mine["ratio"] for name, mine in report["deployments"].items() if mine["ratio"]}
    sentences += (
        f"{name} used {ratios[name]:.2f} times the replica-seconds of a scaler that knows the "
        "future."
        for name in sorted(ratios, key=lambda name: -ratios[name])[:_MOST_DEPLOYMENTS]
    )
    return sentences


def _reaction(reaction: Mapping[str, Any]) -> str:
    regained = reaction["slo_regained_s"]
    if regained is None:
        then = "the goal was not held again while it lasted"
    elif regained == 0:
        then = "the goal was held throughout"
    else:
        then = f"the goal was held again after {regained:g} s"
    before, after = reaction["from_per_s"], reaction["to_per_s"]
    rose = f"rose from {before:.3g} to {after:.3g}" if before else f"began with {after:.3g}"
    return f"When the load {rose} requests/s (“{reaction['stage']}”), {then}."


def notes(run: Run, report: Mapping[str, Any]) -> list[str]:
    """What limits the figures, in sentences."""
    return list(_notes(run, report))


def _notes(run: Run, report: Mapping[str, Any]) -> Iterator[str]:
    outline = run.outline
    if outline.interrupted:
        yield (
            f"The run was interrupted after {run.length_s:.0f} s of {outline.seconds:.0f} s. "
            "The figures are of what was sent until then."
        )
    if run.unanswered:
        yield (
            f"When it was interrupted, {_counted(run.unanswered, 'request')} in flight could still "
            "have become good. They are in no figure."
        )
    for file in run.cut:
        yield f"The last line of {file} wasn't written to its end, and is left out."
    if dropped := sum(request.error == DROPPED for request in run.requests):
        yield (
            f"{dropped:,} of the requests that were due were not sent, since too many were in "
            "flight (`most_in_flight`). They count as failed."
        )
    late = report["lateness_s"]["p99"]
    if late is not None and late > _LATE_S:
        yield (
            f"The tool itself was late: 1 % of the requests were sent more than {late:.2g} s after "
            "they were due, so the load was less even than planned."
        )
    for name, mine in report["deployments"].items():
        if (mine["slowness"] or 0) > _SLOW:
            yield (
                f"Tokens of {name} took {mine['slowness']:.2g} times as long (median) as its "
                "clairvoyant scaler assumes: places slow one another down, or the machine was too "
                "busy. With tokens that slow, that scaler would have needed more replicas, too."
            )
    yield from _missing_samples(run)


def _missing_samples(run: Run) -> Iterator[str]:
    reasons = Counter(s.error for s in run.samples if s.error is not None)
    if not run.read:
        reason = f": {reasons.most_common(1)[0][0]}" if reasons else ""
        yield f"Nothing is known of replicas, queues and nodes, since no sample was read{reason}."
    elif reasons:
        reason, _ = reasons.most_common(1)[0]
        yield (
            f"{reasons.total()} of {len(run.samples)} samples of /metrics couldn't be read (most "
            f"often: {reason}). The plots have gaps there; replica-seconds take the last number "
            "known."
        )


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

"""The table of what caller and provider saw."""

from collections.abc import Sequence
from dataclasses import dataclass

from ops.bench.caller import Reply
from ops.bench.faults.outage import Outage
from ops.bench.faults.promises import Seen


def caller_saw(reply: Reply) -> str:
    """A reply in a few words."""
    words = f"{len((reply.text or reply.arguments).split())} words"
    if reply.error is not None:
        start = f"{words}, then" if reply.models else str(reply.status)
        return f"{start} `{reply.code}`, {reply.seconds:.1f} s"
    rescued = "".join(f", {rescue['mode']}" for rescue in reply.rescued)
    return f"{words} of {reply.model}{rescued}, {reply.seconds:.1f} s"


def provider_saw(seen: Seen) -> str:
    """Each attempt with its time and outcome."""
    logged = zip(seen.at, seen.attempts, strict=True)
    return ", ".join(f"{at:.2f} {attempt.model} {attempt.outcome}" for at, attempt in logged)


@dataclass(frozen=True)
class Line:
    """A row of the table."""

    row: int
    case: str
    backend: str
    caller_saw: str
    provider_saw: str
    broken: Sequence[str]

    def __str__(self) -> str:
        verdict = f"**{'; '.join(self.broken)}**" if self.broken else "kept"
        cells = (self.row, self.case, self.backend, self.caller_saw, self.provider_saw, verdict)
        return f"| {' | '.join(str(cell) for cell in cells)} |"


HEAD = (
    "| row | fault | backend | the caller saw | the provider saw, s | promise |\n"
    + "|---" * 6
    + "|"
)


def line_of_outage(seen: Outage) -> Line:
    failures = ", ".join(f"{since:.1f}" for since in seen.failures)
    statuses = {reply.status for _, reply in seen.replies}
    recovery = "never" if seen.recovery is None else f"{seen.recovery:.1f} s after the recovery"
    return Line(
        15,
        f"down for {seen.times.down:g} s",
        seen.kind,
        f"{len(seen.replies)} requests: {statuses}; the model's own answers again: {recovery}",
        f"503 at {failures}",
        [promise for promise, is_kept in seen.checks() if not is_kept],
    )

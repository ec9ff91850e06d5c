"""Recorded arrivals: reads traces in Mooncake's and Azure's formats, and writes samples of them.

    python -m ops.load.traces generate FILE [--format mooncake|azure] [--seconds N] [--rate N]

Mooncake's (https://github.com/kvcache-ai/Mooncake, FAST25-release) is a JSON object a line:
`timestamp` in ms, `input_length` and `output_length` in tokens, `hash_ids` of the prompt's blocks
of 512 tokens. Azure's (https://github.com/Azure/AzurePublicDataset, AzureLLMInferenceDataset) is
CSV: TIMESTAMP, ContextTokens, GeneratedTokens. Which one a file is, its first line says.
"""

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from serve.config.faults import ConfigError

BLOCK_TOKENS = 512

_MOST_LINES = 5_000_000
_MOST_TOKENS = 10_000_000
_AZURE = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]
# What a line can be wrong by; the last three are of numbers, nesting and values that are too large.
_FAULTS = ValueError, KeyError, TypeError, OverflowError, RecursionError, csv.Error
# What is generated: gaps between arrivals by a gamma distribution whose standard deviation is this
# many times its mean, and lengths by lognormal ones, as medians and sigmas.
_BURSTINESS = 2.5
_PROMPT, _ANSWER = (800, 1.1), (150, 0.9)
_CONTINUES = 0.5  # the chance that a prompt begins as an earlier one did
_REMEMBERED = 200  # conversations that may go on
_MOST_BLOCKS = 32  # longer ones end


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request of a trace.

    Attributes:
        at_s: seconds after the trace's first request.
        prompt_tokens: the prompt's length.
        answer_tokens: the answer's length, at least 1.
        blocks: ids of the prompt's blocks of 512 tokens; equal ids mean equal text.
    """

    at_s: float
    prompt_tokens: int
    answer_tokens: int
    blocks: tuple[int, ...] = ()


def read(file: str | Path) -> list[Arrival]:
    """The requests of a trace, by time.

    Raises:
        ConfigError: there is no such file, or a line of it is wrong; the message has its number.
    """
    try:
        with open(file, encoding="utf-8-sig", newline="") as lines:
            arrivals = list(_arrivals(lines, str(file)))
    except FileNotFoundError:
        raise ConfigError(
            f"there is no trace {file}: python -m ops.load.traces generate {file} makes one"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the trace {file} can't be read: {error}") from None
    if not arrivals:
        raise ConfigError(f"the trace {file} has no requests")
    arrivals.sort(key=lambda arrival: arrival.at_s)
    first = arrivals[0].at_s
    return [
        Arrival(one.at_s - first, one.prompt_tokens, one.answer_tokens, one.blocks)
        for one in arrivals
    ]


def _arrivals(lines: Iterable[str], file: str) -> Iterator[Arrival]:
    parse: Callable[[str], Arrival] | None = None
    for number, line in enumerate(lines, 1):
        if number > _MOST_LINES:
            raise ConfigError(f"the trace {file} has more than {_MOST_LINES:,} lines: cut it")
        if not (line := line.strip()):
            continue
        if parse is None:
            if line.split(",") == _AZURE:
                parse = _azure
                continue
            if not line.startswith("{"):
                raise ConfigError(
                    f"{file} is not a trace: its first line is neither a JSON object (Mooncake's "
                    f"format) nor {','.join(_AZURE)} (Azure's)"
                )
            parse = _mooncake
        try:
            yield parse(line)
        except _FAULTS as error:
            raise ConfigError(f"{file}: line {number}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)


def _mooncake(line: str) -> Arrival:
    row: dict[str, Any] = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError("must be a JSON object")
    blocks = row.get("hash_ids", [])
    if not isinstance(blocks, list) or not all(type(block) is int for block in blocks):
        raise ValueError("hash_ids must be a list of integers")
    return _checked(
        float(row["timestamp"]) / 1000, row["input_length"], row["output_length"], blocks
    )


def _azure(line: str) -> Arrival:
    cells = next(csv.reader([line]))
    if len(cells) != len(_AZURE):
        raise ValueError(f"must have {len(_AZURE)} values, has {len(cells)}")
    at = datetime.fromisoformat(cells[0])
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return _checked(at.timestamp(), int(cells[1]), int(cells[2]), [])


def _checked(at_s: float, prompt: Any, answer: Any, blocks: list[int]) -> Arrival:
    for tokens in (prompt, answer):
        if type(tokens) is not int or not 0 <= tokens <= _MOST_TOKENS:
            raise ValueError(f"a length must be a whole number of tokens, not {tokens!r}")
    if not 0 <= at_s < float("inf"):
        raise ValueError(f"a time must be a number that is not negative, not {at_s!r}")
    # A model that answered nothing can't be asked for 0 tokens.
    return Arrival(at_s, max(prompt, 1), max(answer, 1), tuple(blocks))


# --- samples ---


def generate(seconds: float, rate: float, seed: int = 0) -> list[Arrival]:
    """Requests as real ones are: they come in bursts, most are short, some go on from earlier ones.

    Args:
        seconds: how long the trace is.
        rate: requests a second, on average.
        seed: makes it the same each time.
    """
    random = np.random.default_rng(seed)
    shape = 1 / _BURSTINESS**2
    arrivals: list[Arrival] = []
    conversations: list[tuple[int, ...]] = []
    at, fresh = 0.0, 0
    while (at := at + random.gamma(shape, 1 / (rate * shape))) < seconds:
        prompt, answer = (
            max(1, round(random.lognormal(np.log(median), sigma)))
            for median, sigma in (_PROMPT, _ANSWER)
        )
        blocks: tuple[int, ...] = ()
        if conversations and random.random() < _CONTINUES:
            blocks = conversations[random.integers(len(conversations))]
            prompt += len(blocks) * BLOCK_TOKENS
        number = -(-prompt // BLOCK_TOKENS) - len(blocks)
        blocks = (*blocks, *range(fresh, fresh + number))
        fresh += number
        # The last block is only partly full: what goes on from here doesn't share it.
        if 1 < len(blocks) <= _MOST_BLOCKS:
            conversations = [*conversations, blocks[:-1]][-_REMEMBERED:]
        arrivals.append(Arrival(at, prompt, answer, blocks))
    return arrivals


def write(file: Path, arrivals: Iterable[Arrival], form: str) -> None:
    """Writes a trace in the format "mooncake" or "azure"; the latter has no blocks."""
    lines = [",".join(_AZURE)] if form == "azure" else []
    lines += [_as_azure(one) if form == "azure" else _as_mooncake(one) for one in arrivals]
    file.write_text("\n".join([*lines, ""]), "utf-8")


def _as_mooncake(arrival: Arrival) -> str:
    row = {
        "timestamp": round(arrival.at_s * 1000),
        "input_length": arrival.prompt_tokens,
        "output_length": arrival.answer_tokens,
        "hash_ids": list(arrival.blocks),
    }
    return json.dumps(row)


def _as_azure(arrival: Arrival) -> str:
    at = datetime(2024, 1, 1) + timedelta(seconds=arrival.at_s)
    return f"{at.isoformat(sep=' ')},{arrival.prompt_tokens},{arrival.answer_tokens}"


def main() -> None:
    """`python -m ops.load.traces generate FILE`."""
    parser = argparse.ArgumentParser(
        prog="python -m ops.load.traces",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser(
        "generate", help="write a sample; nothing of a real trace is in it"
    )
    command.add_argument("file", type=Path)
    command.add_argument("--format", choices=["mooncake", "azure"], default="mooncake")
    command.add_argument("--seconds", type=float, default=600.0, help="default: %(default)g")
    command.add_argument("--rate", type=float, default=1.0, help="requests a second")
    command.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not (args.seconds > 0 and args.rate > 0 and args.seconds * args.rate <= _MOST_LINES):
        sys.exit(
            f"--seconds and --rate must be positive, and make at most {_MOST_LINES:,} requests"
        )
    arrivals = generate(args.seconds, args.rate, args.seed)
    write(args.file, arrivals, args.format)
    print(f"{args.file}: {len(arrivals):,} requests in {args.seconds:g} s")


if __name__ == "__main__":
    main()

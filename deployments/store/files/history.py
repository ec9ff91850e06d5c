"""Reading histories of past queries: AIOS's bootstrap JSON, the same as JSONL, Parquet, or objects.

JSON is an array of `{"query", "input_token_length", "outputs": [{"model_name", "correctness",
"output_token_length"}]}`; JSONL has one such object per line. Parquet has one row per query with
`query`, `input_tokens` and, for each model m, `score__m` and `out__m`; null means unknown. Beyond
AIOS's format, an output may have the `count` of answers that it averages, the time of their latest
score (`scored_at`, in Unix seconds), and the `answer` itself; in Parquet `count__m` and so on.
Source: https://docs.aios.foundation/aios-docs/aios-kernel/llm-cores/llm-routing
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments.store.observations import Outcome

History = str | Path | Iterable[Mapping[str, Any]]

FORMATS = (".json", ".jsonl", ".parquet")
WRONG_FORMAT = "a history must be a .json, .jsonl or .parquet file"

_BATCH = 1024
_KINDS = "score", "out", "count", "scored_at", "answer"  # of columns in Parquet
_TOO_LARGE = 1e15  # for any number here; also refuses infinity and integers that no float holds
_MOST_ANSWERS = 10**9
_LATEST = 2.0**32  # Unix seconds, in 2106; later times are milliseconds


@dataclass(frozen=True, slots=True)
class Row:
    """A past query, the outcomes of the models that answered it, and their answers where known."""

    query: str
    input_tokens: int | None
    outcomes: Mapping[str, Outcome]
    answers: Mapping[str, str]


class BadRow(ValueError):
    """A row that can't be used; the message says where it is and what is wrong."""


def read_history(
    history: History, on_bad_row: Callable[[BadRow], None] | None = None
) -> Iterator[Row]:
    """Reads rows from a file (.json, .jsonl, .parquet) or from objects as in AIOS's JSON.

    Args:
        history: a path, or the rows themselves.
        on_bad_row: called with each row that can't be used, which is then skipped; without it,
            the first one is raised.

    Raises:
        BadRow: a row is wrong and there is no `on_bad_row`.
        ValueError: the suffix is unknown, the content doesn't match it, or the file is empty.
        FileNotFoundError: there is no such file.
    """
    for where, parse in _rows(history):
        try:
            row = parse()
        except BadRow as error:
            bad = BadRow(f"{where}: {error}")
        else:
            yield row
            continue
        if on_bad_row is None:
            raise bad
        on_bad_row(bad)


Parsers = Iterator[tuple[str, Callable[[], Row]]]


def _rows(history: History) -> Parsers:
    if not isinstance(history, str | Path):
        for number, item in enumerate(history, start=1):
            yield f"row {number}", lambda item=item: _from_object(item)  # type: ignore[misc]
        return
    path = Path(history)
    readers = dict(zip(FORMATS, (_json_rows, _jsonl_rows, _parquet_rows), strict=True))
    if path.suffix not in readers:
        raise ValueError(f"{path}: {WRONG_FORMAT}")
    yield from readers[path.suffix](path)


def _json_rows(path: Path) -> Parsers:
    text = _text(path)
    decoder = json.JSONDecoder()
    at = _skip(text, 0)
    if text[at : at + 1] != "[":
        raise ValueError(f"{path}: not a JSON array of rows")
    at = _skip(text, at + 1)
    line, counted = 1, 0
    while text[at : at + 1] != "]":
        line, counted = line + text.count("\n", counted, at), at
        try:
            item, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {error.lineno}: {error.msg}") from error
        except (ValueError, RecursionError) as error:  # numbers too long, objects too deep
            raise ValueError(f"{path}, line {line}: {error}") from error
        yield f"{path}, line {line}", lambda item=item: _from_object(item)  # type: ignore[misc]
        at = _skip(text, at)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
        elif text[at : at + 1] != "]":
            raise ValueError(f"{path}, line {line}: expected a comma or the end of the array")


def _text(path: Path) -> str:
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + raw.count(b"\n", 0, error.start)
        raise ValueError(f"{path}, line {line}: not UTF-8 text") from error


def _skip(text: str, at: int) -> int:
    """The next position that is not white space."""
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _jsonl_rows(path: Path) -> Parsers:
    empty = True
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                empty = False
                yield f"{path}, line {number}", lambda line=line: _from_line(line)  # type: ignore[misc]
    if empty:
        raise ValueError(f"{path}: the file has no rows")


def _parquet_rows(path: Path) -> Parsers:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        file = ParquetFile(path)
        models, wanted = _columns(path, file.schema_arrow.names)
        for batch in file.iter_batches(batch_size=_BATCH, columns=wanted):
            for item in batch.to_pylist():
                number += 1
                yield f"{path}, row {number}", lambda item=item: _from_columns(item, models)  # type: ignore[misc]
    except FileNotFoundError:
        raise
    except (ArrowException, OSError) as error:  # OSError: damaged pages
        after = f", after row {number}" if number else ""
        raise ValueError(f"{path}{after}: not a Parquet file, or damaged: {error}") from error
    if not number:
        raise ValueError(f"{path}: the file has no rows")


def _columns(path: Path, names: list[str]) -> tuple[list[str], list[str]]:
    """The models, and the columns to read."""
    models = [name.removeprefix("score__") for name in names if name.startswith("score__")]
    if "query" not in names or not models:
        raise ValueError(f"{path}: needs a column 'query' and columns 'score__<model>'")
    wanted = {"query", "input_tokens"}
    wanted |= {f"{kind}__{model}" for kind in _KINDS for model in models}
    return models, [name for name in names if name in wanted]


def _from_line(line: bytes) -> Row:
    try:
        item = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadRow("not UTF-8 text") from error
    except json.JSONDecodeError as error:
        raise BadRow(f"not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # numbers too long, objects too deep
        raise BadRow(f"not JSON: {error}") from error
    return _from_object(item)


def _from_object(item: Any) -> Row:
    if not isinstance(item, Mapping):
        raise BadRow(f"a row must be an object, not {type(item).__name__}")
    outputs = item.get("outputs")
    if not isinstance(outputs, list | tuple):
        raise BadRow("'outputs' must be a list")
    outcomes: dict[str, Outcome] = {}
    answers: dict[str, Any] = {}
    for output in outputs:
        name = output.get("model_name") if isinstance(output, Mapping) else None
        if not isinstance(name, str) or not name or not name.isprintable():
            raise BadRow("every output needs a 'model_name' of printable text")
        if name in outcomes:
            raise BadRow(f"model '{name}' has two outputs")
        outcomes[name] = _outcome(
            name,
            output.get("correctness"),
            output.get("output_token_length"),
            output.get("count"),
            output.get("scored_at"),
        )
        answers[name] = output.get("answer")
    return _row(item.get("query"), item.get("input_token_length"), outcomes, answers)


def _from_columns(item: Mapping[str, Any], models: list[str]) -> Row:
    outcomes = {
        model: _outcome(
            model,
            item[f"score__{model}"],
            item.get(f"out__{model}"),
            item.get(f"count__{model}"),
            item.get(f"scored_at__{model}"),
        )
        for model in models
        if item[f"score__{model}"] is not None or item.get(f"out__{model}") is not None
    }
    answers = {model: item.get(f"answer__{model}") for model in models}
    return _row(item["query"], item.get("input_tokens"), outcomes, answers)


def _row(
    query: Any, input_tokens: Any, outcomes: Mapping[str, Outcome], answers: Mapping[str, Any]
) -> Row:
    if not isinstance(query, str) or not query.strip():
        raise BadRow("'query' must be non-empty text")
    tokens = _number("the input length", input_tokens)
    known = {model: answer for model, answer in answers.items() if answer is not None}
    for model, answer in known.items():
        if not isinstance(answer, str):
            raise BadRow(f"the answer of '{model}' must be text, not {answer!r}")
    return Row(query, None if tokens is None else int(tokens), outcomes, known)


def _outcome(model: str, quality: Any, tokens: Any, count: Any, scored_at: Any) -> Outcome:
    score = _number(f"the score of '{model}'", quality)
    if score is not None and score > 1:
        raise BadRow(f"the score of '{model}' must be between 0 and 1, not {score}")
    if count is not None and (not isinstance(count, int) or not 1 <= count < _MOST_ANSWERS):
        raise BadRow(f"the count of '{model}' must be a whole number, 1 or more, not {count!r}")
    at = _number(f"the time of the score of '{model}'", scored_at)
    if at is not None and at >= _LATEST:
        raise BadRow(f"the time of the score of '{model}' must be in seconds, not {scored_at!r}")
    length = _number(f"the output length of '{model}'", tokens)
    return Outcome(score, length, count or 1, scored_at=at)


def _number(what: str, value: Any) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or not 0 <= value < _TOO_LARGE:
        raise BadRow(f"{what} must be a number, 0 or more, not {value!r}")
    return float(value)

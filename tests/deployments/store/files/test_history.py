"""Promise: histories are read in every import format, and a bad row is reported with its line."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from deployments.store.files.history import BadRow, Row, read_history

GOOD: dict[str, Any] = {
    "query": "What is 2 + 2?",
    "input_token_length": 8,
    "outputs": [
        {"model_name": "small", "correctness": True, "output_token_length": 3},
        {"model_name": "large", "correctness": 0.5, "output_token_length": 40},
    ],
}


def output(**change: Any) -> dict[str, Any]:
    return GOOD | {"outputs": [GOOD["outputs"][0] | change]}


def check(row: Row) -> None:
    assert row.query == "What is 2 + 2?"
    assert row.input_tokens == 8
    assert row.outcomes["small"].quality == 1
    assert row.outcomes["large"].quality == 0.5
    assert row.outcomes["large"].output_tokens == 40


def test_aios_json(tmp_path: Path) -> None:
    file = tmp_path / "bootstrap.json"
    file.write_text(json.dumps([GOOD, GOOD], indent=1))
    rows = list(read_history(file))
    assert len(rows) == 2
    check(rows[1])


def test_jsonl_by_a_path_given_as_text(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    file.write_text(json.dumps(GOOD) + "\n\n" + json.dumps(GOOD) + "\n")
    rows = list(read_history(str(file)))
    assert len(rows) == 2
    check(rows[0])


def test_parquet_whose_nulls_are_unknown(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    columns = {
        "query": ["What is 2 + 2?", "Why?"],
        "input_tokens": [8, 2],
        "score__small": [1.0, None],
        "out__small": [3, None],
        "score__large": [0.5, 1.0],
        "out__large": [40, 50],
        "cost__large": [0.1, 0.1],
    }
    file = tmp_path / "history.parquet"
    parquet.write_table(pyarrow.table(columns), file)
    rows = list(read_history(file))
    check(rows[0])
    assert list(rows[1].outcomes) == ["large"]


def test_objects() -> None:
    (row,) = read_history([GOOD])
    check(row)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (GOOD | {"query": "  "}, "non-empty"),
        (GOOD | {"query": None}, "non-empty"),
        (GOOD | {"outputs": "none"}, "'outputs' must be a list"),
        (GOOD | {"input_token_length": -1}, "input length"),
        (output(correctness=math.nan), "score of 'small'"),
        (output(correctness=1.2), "between 0 and 1"),
        (output(correctness=-0.1), "score of 'small'"),
        (output(correctness="yes"), "score of 'small'"),
        (output(output_token_length=math.inf), "output length"),
        (output(output_token_length=-3), "output length"),
        (output(output_token_length=10**400), "output length"),
        (output(model_name=None), "model_name"),
        (output(model_name=""), "model_name"),
        (output(model_name="a\0b"), "model_name"),
        (output(count=0), "count of 'small'"),
        (output(count=1.5), "count of 'small'"),
        (output(scored_at=-1), "time of the score of 'small'"),
        (output(scored_at="2026-01-01"), "time of the score of 'small'"),
        (output(scored_at=1.7e12), "must be in seconds"),
        (output(answer=4), "answer of 'small' must be text"),
        (GOOD | {"input_token_length": "8"}, "input length"),
        (GOOD | {"query": ""}, "non-empty"),
        (GOOD | {"outputs": GOOD["outputs"][:1] * 2}, "model 'small' has two outputs"),
        ("text", "a row must be an object"),
    ],
)
def test_a_bad_row_says_what_is_wrong(row: Any, message: str) -> None:
    with pytest.raises(BadRow, match=message):
        list(read_history([row]))


def test_a_bad_row_of_json_is_reported_with_its_line_and_skipped_on_request(tmp_path: Path) -> None:
    bad = output(correctness=7)
    file = tmp_path / "bootstrap.json"
    file.write_text("[\n" + ",\n".join(map(json.dumps, [GOOD, bad, GOOD])) + "\n]")
    with pytest.raises(BadRow, match=r"bootstrap.json, line 3: .*between 0 and 1"):
        list(read_history(file))
    reported: list[BadRow] = []
    assert len(list(read_history(file, reported.append))) == 2
    assert len(reported) == 1


def test_a_bad_line_of_jsonl_is_reported_with_its_number(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    file.write_text(json.dumps(GOOD) + "\n{not json}\n")
    with pytest.raises(BadRow, match="line 2: not JSON"):
        list(read_history(file))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"query": "caf\xe9", "outputs": []}', "line 2: not UTF-8"),
        (b"[" * 100_000, "line 2: not JSON"),
        (b'{"query": ' + b"1" * 5000 + b"}", "line 2: not JSON"),
        (b'{"query": "Why?", "outputs": [', "line 2: not JSON"),
        (
            b'{"query": "Why?", "outputs": [{"model_name": "a", "correctness": NaN}]}',
            "line 2: .*a'",
        ),
    ],
)
def test_a_line_that_is_not_json_is_a_bad_row_and_the_next_is_read(
    tmp_path: Path, line: bytes, message: str
) -> None:
    file = tmp_path / "history.jsonl"
    good = json.dumps(GOOD).encode()
    file.write_bytes(b"\n".join([good, line, good]))
    with pytest.raises(BadRow, match=f"history.jsonl, {message}"):
        list(read_history(file))
    reported: list[BadRow] = []
    assert len(list(read_history(file, reported.append))) == 2
    assert len(reported) == 1


def test_a_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    for name, text in (("a.json", json.dumps([GOOD])), ("a.jsonl", json.dumps(GOOD))):
        (tmp_path / name).write_text(text, encoding="utf-8-sig")
        (row,) = read_history(tmp_path / name)
        check(row)


def test_a_count_of_averaged_answers_is_read() -> None:
    (row,) = read_history([output(count=5)])
    assert row.outcomes["small"].count == 5


def test_the_time_of_a_score_is_read(tmp_path: Path) -> None:
    (row,) = read_history([output(scored_at=1e9)])
    assert row.outcomes["small"].scored_at == 1e9
    columns = {"query": ["Why?"], "score__small": [1.0], "scored_at__small": [2e9]}
    (row,) = read_history(parquet(tmp_path / "times.parquet", **columns))
    assert row.outcomes["small"].scored_at == 2e9


def test_answers_are_read_where_there_are_any(tmp_path: Path) -> None:
    (row,) = read_history([output(answer="4")])
    assert row.answers == {"small": "4"}
    columns = {"query": ["Why?"] * 2, "score__small": [1.0, 1.0], "answer__small": ["so", None]}
    first, second = read_history(parquet(tmp_path / "answers.parquet", **columns))
    assert (first.answers, second.answers) == ({"small": "so"}, {})


def parquet(path: Path, **columns: Any) -> Path:
    import pyarrow
    from pyarrow.parquet import write_table

    write_table(pyarrow.table(columns), path)
    return path


def test_a_bad_row_of_parquet_is_reported_with_its_number(tmp_path: Path) -> None:
    file = parquet(tmp_path / "a.parquet", query=["a", "b", "c"], score__m=[1.0, math.nan, 0.5])
    with pytest.raises(BadRow, match=r"a.parquet, row 2: the score of 'm'"):
        list(read_history(file))
    reported: list[BadRow] = []
    assert [row.query for row in read_history(file, reported.append)] == ["a", "c"]


def test_parquet_without_scores_or_queries_or_rows_is_refused(tmp_path: Path) -> None:
    for columns, message in (
        ({"query": ["a"], "out__m": [1]}, "score__<model>"),
        ({"text": ["a"], "score__m": [1.0]}, "column 'query'"),
        ({"query": [], "score__m": []}, "no rows"),
    ):
        with pytest.raises(ValueError, match=f"a.parquet: .*{message}"):
            list(read_history(parquet(tmp_path / "a.parquet", **columns)))


def test_a_damaged_parquet_file_is_reported(tmp_path: Path) -> None:
    queries = [f"{'word ' * 50}{number}" for number in range(3000)]
    file = parquet(tmp_path / "a.parquet", query=queries, score__m=[1.0] * 3000)
    content = bytearray(file.read_bytes())
    content[1000:9000] = bytes(8000)
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"a.parquet.*damaged"):
        list(read_history(file))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "a history must be a"),
        ("a.json", "", "not a JSON array"),
        ("a.jsonl", "", "no rows"),
        ("a.jsonl", "\n\n", "no rows"),
        ("a.parquet", "", "not a Parquet file"),
        ("a.json", '[\n{"query": "Why?"', "line 2"),
        ("a.json", "[\n" + "[" * 100_000, "line 2"),
        ("a.json", '{"query": 1}', "not a JSON array"),
        ("a.json", '[\n{"query" 1}]', "line 2"),
        ("a.json", "[{} {}]", "comma"),
        ("a.parquet", "text", "not a Parquet file"),
    ],
)
def test_a_file_that_is_not_a_history_is_refused(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        list(read_history(tmp_path / name, on_bad_row=lambda bad: None))


def test_a_missing_file() -> None:
    with pytest.raises(FileNotFoundError):
        list(read_history("nowhere.jsonl"))


def test_text_in_another_encoding_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'[\n{"query": "caf\xe9"}]')
    with pytest.raises(ValueError, match=r"a.json, line 2: not UTF-8"):
        list(read_history(tmp_path / "a.json"))

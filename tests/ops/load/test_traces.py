"""Promise: traces of both formats are read, wrong lines are named, and samples are as real ones."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ops.load.traces import BLOCK_TOKENS, Arrival, generate, read, write
from serve.config import ConfigError

MOONCAKE = '{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47]}\n'
AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,374,44
2023-11-16 18:17:05.4799600,0,0
"""


def saved(tmp_path: Path, content: str) -> Path:
    file = tmp_path / "trace"
    file.write_text(content)
    return file


def test_mooncakes_format_is_read(tmp_path: Path) -> None:
    earlier = MOONCAKE.replace("27482", "26482").replace("[46, 47]", "[]")
    file = saved(tmp_path, MOONCAKE + "\n" + earlier)
    assert read(file) == [Arrival(0, 6955, 52), Arrival(1, 6955, 52, (46, 47))]


def test_azures_format_is_read(tmp_path: Path) -> None:
    first, second = read(saved(tmp_path, AZURE))
    assert first == Arrival(0, 374, 44)
    assert second.at_s == pytest.approx(1.5)
    assert (second.prompt_tokens, second.answer_tokens) == (1, 1)  # 0 can't be asked for


def test_azures_newer_traces_have_time_zones(tmp_path: Path) -> None:
    content = AZURE.replace("03.9799600", "03.979960+00:00").replace("05.4799600", "05+00:00")
    assert len(read(saved(tmp_path, content))) == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "has no requests"),
        ("time,prompt\n1,2\n", "its first line is neither"),
        (MOONCAKE + "{", "line 2: "),
        (MOONCAKE.replace("input_length", "length"), "line 1: input_length is missing"),
        (MOONCAKE.replace("6955", "-1"), "line 1: a length must be a whole number of tokens"),
        (MOONCAKE.replace("27482", '"now"'), "line 1: "),
        (MOONCAKE.replace("[46, 47]", '"46"'), "line 1: hash_ids must be a list of integers"),
        (MOONCAKE + "[1,2]", "line 2: must be a JSON object"),
        (MOONCAKE + "5", "line 2: must be a JSON object"),
        (MOONCAKE.replace("27482", "9" * 400), "line 1: "),
        (MOONCAKE.replace("46", "[" * 100_000), "line 1: "),
        (AZURE + f"2023-11-16,1,{'9' * 140_000}\n", "line 4: "),
        (AZURE + "2023-11-16,1\n", "line 4: must have 3 values, has 2"),
        (AZURE + "yesterday,1,1\n", "line 4: "),
        (AZURE + "2023-11-16,1,many\n", "line 4: "),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(saved(tmp_path, content))
    assert said in str(error.value)


def test_a_trace_that_is_not_there_can_be_made(tmp_path: Path) -> None:
    file = tmp_path / "sample.jsonl"
    with pytest.raises(ConfigError, match=r"ops\.load\.traces generate"):
        read(file)
    command = [sys.executable, "-m", "ops.load.traces", "generate", str(file), "--seconds", "60"]
    subprocess.run(command, check=True, capture_output=True)
    assert read(file)


@pytest.mark.parametrize("form", ["mooncake", "azure"])
def test_a_sample_is_read_as_it_was_made(tmp_path: Path, form: str) -> None:
    made, file = generate(600, 2, seed=3), tmp_path / "sample"
    write(file, made, form)
    found = read(file)
    assert [one.prompt_tokens for one in found] == [one.prompt_tokens for one in made]
    assert [one.answer_tokens for one in found] == [one.answer_tokens for one in made]
    times = np.array([one.at_s for one in made])
    assert [one.at_s for one in found] == pytest.approx(times - times[0], abs=0.002)
    blocks = [one.blocks for one in made]
    assert [one.blocks for one in found] == (blocks if form == "mooncake" else [()] * len(made))


def test_a_sample_comes_in_bursts_at_its_rate_with_long_and_shared_prompts() -> None:
    made = generate(20_000, 1, seed=1)
    gaps = np.diff([one.at_s for one in made])
    assert len(made) == pytest.approx(20_000, rel=0.1)
    assert np.std(gaps) / np.mean(gaps) == pytest.approx(2.5, rel=0.15)
    answers = [one.answer_tokens for one in made]
    assert np.median(answers) == pytest.approx(150, rel=0.1)
    assert np.mean(answers) > 1.2 * np.median(answers)
    for one in made:
        assert len(one.blocks) == -(-one.prompt_tokens // BLOCK_TOKENS)
    starts = [one.blocks[0] for one in made]
    assert len(set(starts)) < 0.7 * len(starts)


def test_the_seed_decides() -> None:
    assert generate(100, 1) == generate(100, 1)
    assert generate(100, 1) != generate(100, 1, seed=1)

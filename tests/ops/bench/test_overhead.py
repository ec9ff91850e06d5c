"""Promise: the overhead benchmark counts only right answers, and its figures are what it says."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from serve_fixtures import in_repository

from deployments.store.files.history import read_history
from ops.bench.overhead.cases import CASES
from ops.bench.overhead.contestants import CONTESTANTS, ENDPOINT, LITELLM, Start, application
from ops.bench.overhead.load import Measured, Target, closed, counted, opened
from ops.bench.overhead.memory import grow
from ops.bench.overhead.memory import table as memory_table
from ops.bench.overhead.messages import CANDIDATES, END, Ask, asked, events, whole
from ops.bench.overhead.plot import draw
from ops.bench.overhead.report import cores, metered, results, table
from ops.bench.overhead.rounds import Played, Round, play
from ops.bench.overhead.servers import Server as Started
from ops.bench.overhead.servers import started
from ops.bench.overhead.upstream import Server, serving
from ops.bench.processes import Tree
from serve.config import load_config

WHOLE, STREAM = Ask(tokens=3), Ask(tokens=3, stream=True)
_EVENTS = events(3)


# --- answers ---


def test_the_upstream_is_asked_for_what_the_caller_wants() -> None:
    ask = Ask(tokens=64, delay_s=0.06, stream=True)
    assert asked(ask.body("some/model")) == ask


def test_a_changed_message_is_no_wish() -> None:
    with pytest.raises(ValueError, match="no wish"):
        asked(b'{"messages": []}')


def test_an_answer_is_right_whatever_spaces_its_json_has() -> None:
    assert WHOLE.answered_by(whole(3))
    assert WHOLE.answered_by(json.dumps(json.loads(whole(3)), separators=(",", ":")).encode())


def test_tokens_of_a_stream_may_come_together() -> None:
    together = _EVENTS[1].replace(b"word0", b"word0 word1 word2")
    assert STREAM.answered_by(b"".join(_EVENTS))
    assert STREAM.answered_by(b"".join([_EVENTS[0], together, *_EVENTS[4:]]))


@pytest.mark.parametrize(
    "body",
    [
        b"".join(_EVENTS[:2] + _EVENTS[3:]),
        b"".join(_EVENTS[:2] + _EVENTS[1:]),
        b"".join([_EVENTS[0], _EVENTS[2], _EVENTS[1], *_EVENTS[3:]]),
        b"".join(_EVENTS[:4] + _EVENTS[5:]),
        b"".join(_EVENTS[:5] + _EVENTS[4:]),
        b"".join(_EVENTS[:5] + _EVENTS[6:]),
        b"".join(_EVENTS).removesuffix(END),
        b"".join(events(2)),
        whole(3),
        b'data: {"error": {"message": "no"}}\n\n',
        b"",
    ],
    ids=[
        *("a token lost", "a token twice", "tokens swapped", "no end", "two ends", "no usage"),
        *("not done", "too short", "not a stream", "an error", "nothing"),
    ],
)
def test_a_wrong_stream_is_no_answer(body: bytes) -> None:
    assert not STREAM.answered_by(body)


@pytest.mark.parametrize("body", [whole(2), b"".join(_EVENTS), b'{"error": {}}'])
def test_a_wrong_whole_answer_is_no_answer(body: bytes) -> None:
    assert not WHOLE.answered_by(body)


# --- load ---


@asynccontextmanager
async def listening(protocol: Callable[[], asyncio.Protocol]) -> AsyncIterator[Target]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield Target(f"http://127.0.0.1:{port}", "key", "bench")
    finally:
        server.close()


class Unhelpful(asyncio.Protocol):
    """Answers every request with the same bytes, then closes."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._answer)
        self._transport.close()


REFUSAL = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 4\r\n\r\nbusy"
CUT = b"HTTP/1.1 200 OK\r\ncontent-length: 400\r\n\r\nhello"


@pytest.mark.parametrize("ask", [WHOLE, STREAM, Ask(tokens=1, delay_s=0.01)])
async def test_a_closed_load_keeps_its_connections_busy(ask: Ask) -> None:
    async with listening(Server) as target:
        measured = await closed(target, ask, connections=4, seconds=0.2, lead_s=0.1)
    assert not measured.faults
    assert measured.offered == len(measured.latencies) > 4
    assert min(measured.latencies) >= ask.delay_s


async def test_an_open_load_does_not_wait_for_answers() -> None:
    async with listening(Server) as target:
        measured = await opened(target, Ask(delay_s=0.5), rate=100, seconds=0.3)
    assert measured.offered == len(measured.latencies) == 30
    assert max(measured.latencies) < 0.8


async def test_a_counted_load_sends_that_many_requests() -> None:
    async with listening(Server) as target:
        measured = await counted(target, WHOLE, connections=4, number=50)
    assert measured.offered == len(measured.latencies) == 50
    assert measured.seconds > 0


@pytest.mark.parametrize(
    ("answer", "said"),
    [(REFUSAL, "429 busy"), (CUT, "closed before"), (b"", "closed before")],
)
async def test_what_is_no_answer_is_a_fault_and_no_latency(answer: bytes, said: str) -> None:
    async with listening(lambda: Unhelpful(answer)) as target:
        measured = await opened(target, WHOLE, rate=20, seconds=0.1)
        busy = await closed(target, WHOLE, connections=1, seconds=0.1, lead_s=0)
    for one in (measured, busy):
        assert not one.latencies
        assert one.offered == len(one.faults) > 0
        assert all(said in fault for fault in one.faults)


async def test_a_server_that_is_down_is_a_fault() -> None:
    async with listening(Server) as target:
        pass
    measured = await opened(target, WHOLE, rate=20, seconds=0.1)
    assert [len(measured.latencies), len(measured.faults)] == [0, 2]


# --- contestants ---


def test_our_configuration_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contestant = CONTESTANTS["ours"]
    for name, value in contestant.environment.items():
        monkeypatch.setenv(name, value)
    command = application(Start("http://127.0.0.1:1", 1, tmp_path))
    config = load_config({"config": command[command.index("--config") + 1]})
    assert config.server.requires_keys
    names = {model.name for model in config.llms.models}
    assert names == {contestant.models[ENDPOINT], contestant.models[LITELLM], *CANDIDATES}


def test_the_store_of_our_configuration_knows_past_queries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CONTESTANTS["ours-store"].environment.items():
        monkeypatch.setenv(name, value)
    command = application(Start("http://127.0.0.1:1", 1, tmp_path), store=True)
    config = load_config({"config": command[command.index("--config") + 1]})
    assert config.llms.store is not None
    (history,) = config.llms.store.history
    rows = list(read_history(Path(history)))
    assert len(rows) == 1000
    assert {model for row in rows for model in row.outcomes} == set(CANDIDATES)


def test_a_new_query_is_never_the_same_and_still_says_what_it_wants() -> None:
    ask = Ask(strategy="smart", new=True)
    bodies = [ask.body("auto") for _ in range(20)]
    assert len(set(bodies)) == 20
    assert asked(bodies[0]).tokens == ask.tokens
    assert json.loads(bodies[0])["models"] == list(CANDIDATES)


# --- report ---


def rounds(*latencies: list[float], seconds: float = 1.0) -> list[Round]:
    return [
        Round(Measured(seconds, len(one), one), {"callers": 0.25, "idle": 0.001})
        for one in latencies
    ]


PLAYED: Played = {
    "whole-32": {
        "bare": rounds([0.001] * 90, [0.001] * 110),
        "litellm": rounds([0.1] * 10, [0.1] * 20, [0.1] * 30),
        "ours": rounds([0.1] * 50, [0.1] * 80, [0.1] * 90),
    },
    "whole-1": {
        "bare": rounds([0.001], [0.003]),
        "litellm": rounds([0.011], [0.013]),
        "ours": rounds([0.003, 0.003], [0.006]),
    },
    "open": {"bare": rounds([0.06] * 99), "ours": [Round(Measured(1.0, 4, [0.1], ["?"] * 3), {})]},
}


def test_throughput_is_compared_by_medians() -> None:
    ours = results(PLAYED)["whole-32"]["ours"]
    assert ours["per_s"] == 80
    assert ours["ratio"] == 4
    assert (ours["lowest"], ours["highest"]) == (3, 5)


def test_latency_is_compared_without_the_upstreams_own() -> None:
    ours = results(PLAYED)["whole-1"]["ours"]
    assert ours["ratio"] == pytest.approx(0.25)
    assert (ours["lowest"], ours["highest"]) == (pytest.approx(0.2), pytest.approx(0.3))


def test_what_was_not_answered_counts_as_offered() -> None:
    ours = results(PLAYED)["open"]["ours"]
    assert (ours["answered"], ours["faults"]) == (0.25, 3)
    assert "ratio" not in ours


def test_a_contestant_without_answers_has_no_latency() -> None:
    found = results({"open": {"bare": [Round(Measured(1.0, 1, [], ["?"]), {})]}})
    assert found["open"]["bare"]["p99_ms"] is None
    assert "no answer, 1 faults" in table(found)


def test_the_tables_show_figures_ratios_and_goals() -> None:
    found = results(PLAYED)
    lines = table(found).splitlines()
    assert lines[0] == "| | goal | bare | litellm | ours |"
    assert lines[2].endswith("| ≥ 5× | 100/s | 20/s, 1.00× (1.00–1.00) | 80/s, 4.00× (3.00–5.00) |")
    assert "+2.50 ms, 0.25× (0.20–0.30)" in lines[3]
    assert lines[4].endswith("| ≥ 99 % answered | 100.0 %, p99 60 ms |  | 25.0 %, p99 100 ms |")
    assert "- ours: callers 0.25" in cores(found)
    assert "idle" not in cores(found)


def test_growth_is_shown_for_each_part_and_for_all() -> None:
    shown = memory_table({"ours": [{"Router": 100.0}, {"Router": 500.0}, {"Router": 130.0}]})
    assert "| Router | 100 | 130 | +30 |" in shown
    assert "| all | 100 | 130 | +30 |" in shown


def test_ratios_are_drawn(tmp_path: Path) -> None:
    draw(results(PLAYED), tmp_path / "plot.svg")
    drawn = (tmp_path / "plot.svg").read_text()
    assert "ours" in drawn
    assert "goal" in drawn
    assert "bare" not in drawn


# --- the whole ---


async def test_a_round_is_played_and_paused_again(tmp_path: Path) -> None:
    case = "whole-1"
    with started(["bare"], tmp_path) as field:
        played = await play(field, {case: CASES[case]}, number=1, seconds=0.1)
    found = results(played)[case]["bare"]
    assert found["answered"] == 1
    assert found["per_s"] > 100
    assert set(found["cores"]) == {"upstream", "callers"}


async def test_memory_is_looked_at_after_every_ten_thousand_requests() -> None:
    with serving() as (url, process):
        server = Started(url, CONTESTANTS["bare"], Tree(process.pid))
        try:
            (look,) = await grow(server, 10_000)
        finally:
            server.resume()
    assert sum(look.values()) > 1


# --- metrics ---


def test_what_metrics_cost_is_compared_round_by_round_without_callers_and_upstream() -> None:
    def rounds(*used: float) -> list[Round]:
        measured = Measured(2.0, 4, [0.1] * 4)
        return [Round(measured, {"Router": cores, "callers": 9, "upstream": 9}) for cores in used]

    played = {"whole-32": {"ours": rounds(0.2, 0.66, 0.4), "ours-unmetered": rounds(0.2, 0.6, 0.2)}}
    row = "| whole, 32 connections, ours | 200.00 ms | 100.00 ms | 1.100 (1.000, 2.000) |"
    table = metered(played).splitlines()
    assert table[2] == row
    assert re.fullmatch(r"Recording alone: \d+ µs of the router, \d+ of a replica", table[-1])
    assert len(metered({"whole-32": {"ours": rounds(1.0)}}).splitlines()) == 2


def test_the_unmetered_application_records_nothing() -> None:
    code = (
        "from ops.bench.overhead.unmetered import leave_out; leave_out(); "
        "from deployments.telemetry.instruments import ATTEMPTS, REGISTRY; "
        "from serve.dispatch.calls import MeasuredCall; "
        "MeasuredCall('a', None, 'a', True).end('answered'); ATTEMPTS.labels('a', 'b').inc(); "
        "assert not list(REGISTRY.collect())"
    )
    subprocess.run([sys.executable, "-c", code], cwd=in_repository("."), check=True)

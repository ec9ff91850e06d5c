"""Streaming beside the engine's own server and Ray's own application: first token and speed.

    python -m ops.bench.engine [--rounds N] [--out FOLDER]

The same models with the same arguments in the same build of vLLM, for CPUs, behind each of
`CONTESTANTS`, all started anew and asked in turn over HTTP, in a new order each round. Two models:
the demo's, whose steps are so short that nearly all time is overhead, and one of random weights
that takes as long for a step as a large model on a GPU. Ratios are of medians over the rounds, to
the first contestant's, with the middle 95 % of ratios when rounds are drawn again. Whoever is not
asked is stopped meanwhile, since even idle clusters take a part of a small machine. Ends with one
line of JSON.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import socket
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import numpy as np
import psutil

DEMO_LARGE = Path(__file__).parents[1] / "demo" / "models" / "demo-large"
GOALS = {"ttft": 1.10, "tokens_per_s": 0.95}

# An answer is `TOKENS` letters of a token each. At once, prompts are short: their reading costs
# all contestants the same.
TOKENS, AT_ONCE = 96, 16
LONG_PROMPT, SHORT_PROMPT = 300, 32
WARM_UP = 1  # rounds
ALONE = 2  # requests, one after the other, of a round
RESAMPLES = 2000

_PATH, _JSON = "/v1/chat/completions", {"content-type": "application/json"}
_START_S = 300
_SETTLE_S = 2.0  # for what waited while it was stopped
_MODEL = "bench"
_ENGINE = {"max_model_len": 2048, "max_num_seqs": 32, "enforce_eager": True}
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    # Ray gives its workers, engines among them, less of a busy machine than others get.
    "RAY_worker_niceness": "0",
}


# --- who is measured ---


def engine_command(model: Path, port: int, folder: Path) -> list[str]:
    """vLLM's own OpenAI server."""
    return [
        *("-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(model), "--served-model-name", _MODEL),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--max-model-len", str(_ENGINE["max_model_len"])),
        *("--max-num-seqs", str(_ENGINE["max_num_seqs"]), "--enforce-eager"),
    ]


def our_command(model: Path, port: int, folder: Path) -> list[str]:
    """This application, as `make run` serves it."""
    served = {"name": _MODEL, "backend": "vllm", "model": str(model), "gpus": 0, "engine": _ENGINE}
    config = folder / "config.json"  # JSON is YAML
    config.write_text(json.dumps({"llms": {"models": [served]}}))
    return ["-m", "ops.run", "--config", str(config), "--port", str(port)]


def peer_command(model: Path, port: int, folder: Path) -> list[str]:
    """`ray.serve.llm.build_openai_app` with its defaults."""
    config = folder / "config.json"
    served = {
        "model_loading_config": {"model_id": _MODEL, "model_source": str(model)},
        "placement_group_config": {"bundles": [{"CPU": 1}]},
        "engine_kwargs": _ENGINE,
    }
    config.write_text(json.dumps({"llm_configs": [served]}))
    return ["-m", "ops.bench.peer", "--config", str(config), "--port", str(port)]


@dataclass(frozen=True)
class Contestant:
    """`command` makes Python's arguments of the model's folder, a port and a folder of its own."""

    command: Callable[[Path, int, Path], list[str]]
    environment: Mapping[str, str] = field(default_factory=dict)


REFERENCE = "vllm server"
CONTESTANTS = {
    REFERENCE: Contestant(engine_command),
    "ours": Contestant(our_command),
    "ours, throughput mode": Contestant(our_command, {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}),
    "build_openai_app": Contestant(peer_command),
}


@dataclass(frozen=True)
class Server:
    """A contestant's processes, of which `process` is the first."""

    url: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def wait(self) -> None:
        """Returns when it answers.

        Raises:
            SystemExit: it does not.
        """
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                answer = httpx.post(
                    f"{self.url}{_PATH}",
                    content=body("hello"),
                    headers=_JSON,
                    timeout=60,
                    trust_env=False,
                )
                if answer.status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(1)
        sys.exit(f"it does not start; why is in {self.log}")

    def stop(self) -> None:
        """Keeps its processes from running."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Lets them run again."""
        self._signal(signal.SIGCONT)

    def _signal(self, sign: signal.Signals) -> None:
        for process in [*psutil.Process(self.process.pid).children(recursive=True), self.process]:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(sign)


@contextmanager
def started(name: str, model: Path, logs: Path) -> Iterator[Server]:
    """A contestant that answers, but is stopped."""
    contestant = CONTESTANTS[name]
    port = _free_port()
    log = logs / f"{model.name}, {name}.log"
    # Short, for Ray makes sockets in it.
    temporary = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
    with temporary as folder, log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *contestant.command(model, port, Path(folder))],
            env={
                **os.environ,
                **_ENVIRONMENT,
                **contestant.environment,
                "RAY_TMPDIR": folder,
                "VLLM_CACHE_ROOT": f"{folder}/vllm",
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        server = Server(f"http://127.0.0.1:{port}", process, log)
        try:
            server.wait()
            server.stop()
            yield server
        finally:
            server.go_on()
            _end(process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# --- what is asked ---


@dataclass(frozen=True)
class Answer:
    """One streamed answer: seconds from its request to each of its arrivals, and their tokens."""

    at: Sequence[float]
    tokens: Sequence[int]

    @property
    def time_per_token(self) -> float:
        """Seconds from the first token to the last, for each one between; what arrives in one
        piece counts as come at once, so that a late first token makes this one small."""
        return (self.at[-1] - self.at[0]) / (TOKENS - 1)


Arrival = tuple[float, bytes]


def read(arrivals: Iterable[Arrival]) -> Answer:
    """What arrived of a streamed answer; a letter is a token.

    Raises:
        ValueError: it is not what was asked for.
    """
    at, tokens, used, rest = [], [], None, b""
    for seconds, data in arrivals:
        *events, rest = (rest + data).split(b"\n\n")
        said = 0
        for event in events:
            if (content := event.removeprefix(b"data: ")) == b"[DONE]":
                continue
            chunk = json.loads(content)
            if "choices" not in chunk:
                raise ValueError(f"no answer but {content!r}")
            used = chunk.get("usage") or used
            said += sum(len(choice["delta"].get("content") or "") for choice in chunk["choices"])
        if said:
            at.append(seconds)
            tokens.append(said)
    if sum(tokens) != TOKENS or used is None or used["completion_tokens"] != TOKENS:
        raise ValueError(f"{sum(tokens)} letters of {TOKENS}; usage {used}")
    return Answer(at, tokens)


def body(prompt: str) -> bytes:
    """A request for letters only, which keep the answer from ending; greedy."""
    request = {
        "model": _MODEL,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": TOKENS,
        "temperature": 0,
        "logit_bias": {str(ord(letter)): 100 for letter in string.ascii_lowercase},
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return json.dumps(request).encode()


async def ask(session: aiohttp.ClientSession, prompt: str) -> list[Arrival]:
    """What arrives, and when. It is read afterwards, for that would slow the rest down."""
    data = body(prompt)
    began = time.perf_counter()
    async with session.post(_PATH, data=data, headers=_JSON) as response:
        return [
            (time.perf_counter() - began, arrived) async for arrived in response.content.iter_any()
        ]


@dataclass(frozen=True)
class Round:
    """One contestant's answers of one round, and its tokens per second of all at once."""

    alone: Sequence[Answer]
    tokens_per_s: float


async def play(session: aiohttp.ClientSession, seed: int) -> Round:
    """Asks one contestant; those of one seed are asked the same."""
    letters = random.Random(seed)

    # New to the engine, which remembers what prompts begin with.
    def prompt(length: int) -> str:
        return "".join(letters.choices(string.ascii_lowercase + " ", k=length))

    alone = [await ask(session, prompt(LONG_PROMPT)) for _ in range(ALONE)]
    prompts = [prompt(SHORT_PROMPT) for _ in range(AT_ONCE)]
    began = time.perf_counter()
    together = await asyncio.gather(*(ask(session, one) for one in prompts))
    seconds = time.perf_counter() - began
    written = sum(sum(read(arrivals).tokens) for arrivals in together)
    return Round([read(arrivals) for arrivals in alone], written / seconds)


async def rounds(servers: Mapping[str, Server], number: int) -> dict[str, list[Round]]:
    """Rounds in which all contestants are asked in turn."""
    played: dict[str, list[Round]] = {name: [] for name in servers}
    order = random.Random(0)
    async with AsyncExitStack() as stack:
        sessions = {
            name: await stack.enter_async_context(aiohttp.ClientSession(server.url))
            for name, server in servers.items()
        }
        for seed in range(-WARM_UP, number):
            for name in order.sample(list(servers), len(servers)):
                servers[name].go_on()
                await asyncio.sleep(_SETTLE_S)
                await ask(sessions[name], "hello")
                one = await play(sessions[name], seed)
                servers[name].stop()
                if seed >= 0:
                    played[name].append(one)
    return played


# --- models ---


def slow_model(folder: Path) -> Path:
    """Saves a Llama of random weights with the demo's tokenizer: many thin layers, for a step that
    takes about as long as that of 8 thousand million parameters on a GPU."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shutil.copytree(DEMO_LARGE, folder)
    torch.manual_seed(0)
    config = LlamaConfig.from_pretrained(
        DEMO_LARGE,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=28,
        num_attention_heads=8,
        num_key_value_heads=2,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


# --- what is reported ---

Figures = dict[str, float]


def figures(played: Sequence[Round]) -> Figures:
    """Of one contestant: milliseconds, and tokens per second."""
    answers = [answer for one in played for answer in one.alone]
    first = [answer.at[0] for answer in answers]
    gaps = np.concatenate([np.diff(answer.at) for answer in answers])
    pace = [answer.time_per_token for answer in answers]
    return {
        "ttft_ms": 1e3 * float(np.median(first)),
        "ttft_p90_ms": 1e3 * float(np.percentile(first, 90)),
        "time_per_token_ms": 1e3 * float(np.median(pace)),
        "answer_ms": 1e3 * float(np.median([answer.at[-1] for answer in answers])),
        "gap_p99_ms": 1e3 * float(np.percentile(gaps, 99)),
        "tokens_per_arrival": TOKENS * len(answers) / sum(len(answer.at) for answer in answers),
        "tokens_per_s": float(np.median([one.tokens_per_s for one in played])),
    }


# What is compared, of one round.
MEASURES: Mapping[str, Callable[[Round], float]] = {
    "ttft": lambda one: float(np.median([answer.at[0] for answer in one.alone])),
    "time_per_token": lambda one: float(np.median([a.time_per_token for a in one.alone])),
    "answer": lambda one: float(np.median([answer.at[-1] for answer in one.alone])),
    "tokens_per_s": lambda one: one.tokens_per_s,
}


@dataclass(frozen=True)
class Ratio:
    """A ratio of medians, and between what bounds 95 % of them lie when rounds are drawn again."""

    value: float
    low: float
    high: float


def ratio(mine: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Of the medians; both are by round, and a round is drawn for both."""
    both = np.array([mine, theirs])
    drawn = np.random.default_rng(0).integers(0, len(mine), (RESAMPLES, len(mine)))
    over, under = np.median(both[:, drawn], axis=2)
    low, high = np.percentile(over / under, [2.5, 97.5])
    over, under = np.median(both, axis=1)
    return Ratio(float(over / under), float(low), float(high))


def ratios(played: Mapping[str, Sequence[Round]]) -> dict[str, dict[str, Ratio]]:
    """Each contestant's to the reference."""
    return {
        name: {
            measure: ratio([of(one) for one in mine], [of(one) for one in played[REFERENCE]])
            for measure, of in MEASURES.items()
        }
        for name, mine in played.items()
    }


def table(measured: Mapping[str, Figures], compared: Mapping[str, Mapping[str, Ratio]]) -> str:
    """In Markdown, one row for each contestant."""
    columns = [*next(iter(measured.values())), *(f"{measure}, ratio" for measure in MEASURES)]
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, mine in measured.items():
        cells = [f"{value:,.4g}" for value in mine.values()]
        cells += [f"{r.value:.3f} ({r.low:.3f}–{r.high:.3f})" for r in compared[name].values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def measure(model: Path, number: int, out: Path) -> dict[str, Any]:
    """All contestants with one model."""
    with ExitStack() as stack:
        servers = {name: stack.enter_context(started(name, model, out)) for name in CONTESTANTS}
        played = asyncio.run(rounds(servers, number))
    measured = {name: figures(mine) for name, mine in played.items()}
    compared = ratios(played)
    told = f"\n{model.name}, {number} rounds\n\n{table(measured, compared)}"
    print(told, flush=True)
    with (out / "tables.md").open("a") as tables:
        tables.write(f"{told}\n")
    return {
        name: {
            **measured[name],
            "ratios": {key: asdict(value) for key, value in compared[name].items()},
        }
        for name in played
    }


def main() -> None:
    """Runs all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="of each model (default: 10)")
    parser.add_argument("--out", type=Path, default=Path("build/bench-engine"))
    arguments = parser.parse_args()
    # A supervisor's way to end it does as Ctrl-C does: nothing stays behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "tables.md").unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        models = [DEMO_LARGE, slow_model(Path(folder) / "slow")]
        results = {model.name: measure(model, arguments.rounds, arguments.out) for model in models}
    print(
        json.dumps(
            {
                "benchmark": "engine",
                "cores": os.cpu_count(),
                "rounds": arguments.rounds,
                "goals": GOALS,
                "results": results,
            }
        )
    )


if __name__ == "__main__":
    main()

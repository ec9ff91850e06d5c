"""The contestants: what is started for each, as its users would, in front of the same upstream."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

from ops.bench.engine.models import DEMO_LARGE
from ops.bench.overhead.messages import CANDIDATES, new_text
from ops.local.ray_settings import FAST
from ops.ports import free_port

REFERENCE = "litellm"
UNMETERED = "-unmetered"
# What a caller asks for: a model at an OpenAI-compatible server, or the same through LiteLLM.
ENDPOINT, LITELLM = "endpoint", "litellm"
# Or for one of two, chosen in turn or by smart routing.
IN_TURN, SMART = "in-turn", "smart"
KEY = "sk-" + "0123456789abcdef" * 2
LITELLM_ENVIRONMENT = Path(".venv-litellm")
_PAST = 1000  # queries that the store knows
_PRICES = [
    {"cost_per_input_token": 1e-7 * factor, "cost_per_output_token": 4e-7 * factor}
    for factor in (1, 3)
]

_RAY = {
    # Ray runs its workers at a lower priority than other processes, such as the upstream.
    "RAY_worker_niceness": "0",
    # This checkout is measured, wherever the package was installed from.
    "PYTHONPATH": str(Path.cwd()),
}
_DEFAULT = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "0", "RAY_SERVE_ENABLE_HA_PROXY": "0"}
# As `make run` starts it.
_FAST = {**_DEFAULT, **FAST}
_THROUGHPUT = {**_DEFAULT, "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
_HAPROXY = {**_THROUGHPUT, "RAY_SERVE_ENABLE_HA_PROXY": "1"}
_PROXY = {
    # As its documentation advises for production, and without calls to the network.
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}


@dataclass(frozen=True)
class Start:
    """What a contestant is started with: the upstream's URL, its own port, a folder for files."""

    upstream: str
    port: int
    folder: Path

    def written(self, config: object) -> str:
        """The path of a new file that holds a configuration. JSON is YAML."""
        file = self.folder / "config.yaml"
        file.write_text(json.dumps(config))
        return str(file)


def application(
    start: Start, *, in_router: bool = False, store: bool = False, metered: bool = True
) -> list[str]:
    """Our application: keys on, and the upstream as three models. With a store, which knows some
    past queries, for smart routing; and with metrics, or not."""
    models = [
        *(
            {"name": name, "backend": "vllm", "model": "bench", "hostname": start.upstream} | price
            for name, price in zip(CANDIDATES, _PRICES, strict=True)
        ),
        {
            "name": LITELLM,
            "backend": "openai",
            "model": "bench",
            "hostname": f"{start.upstream}/v1",
            "api_key": "${UPSTREAM_KEY}",
            **_PRICES[0],
        },
    ]
    kept = {"url": f"sqlite:///{start.folder}/store.db", "history": _history(start.folder)}
    config = {
        "llms": {"models": models, "hosted": {"in_router": in_router}}
        | ({"store": kept} if store else {}),
        "server": {"keys": [{"name": "bench", "key": "${BENCH_KEY}"}]},
    }
    return [
        *(sys.executable, "-m", "ops.bench.overhead.application"),
        *("--config", start.written(config), "--port", str(start.port)),
        *(() if metered else ("--unmetered",)),
    ]


def _history(folder: Path) -> str:
    """The path of a new file with what both models did on past queries."""
    random = Random(0)
    file = folder / "history.jsonl"
    with file.open("w") as written:
        for _ in range(_PAST):
            outputs = [
                {"model_name": name, "correctness": random.randint(0, 1), "output_token_length": 16}
                for name in CANDIDATES
            ]
            past = {"query": new_text(), "input_token_length": 40, "outputs": outputs}
            written.write(json.dumps(past) + "\n")
    return str(file)


def proxy(start: Start, workers: int = 1) -> list[str]:
    """LiteLLM's proxy without a database: a master key, and the upstream as one model."""
    upstream = {
        "model": "openai/bench",
        "api_base": f"{start.upstream}/v1",
        "api_key": "none",
    }
    config = {
        "model_list": [{"model_name": ENDPOINT, "litellm_params": upstream}],
        "litellm_settings": {"request_timeout": 600, "set_verbose": False, "json_logs": True},
        "general_settings": {"master_key": KEY},
    }
    program = LITELLM_ENVIRONMENT / "bin" / "litellm"
    if not program.exists():
        sys.exit(f"there is no {program}: make {LITELLM_ENVIRONMENT}/.installed")
    return [
        str(program),
        *("--config", start.written(config), "--num_workers", str(workers)),
        *("--host", "127.0.0.1", "--port", str(start.port)),
    ]


def peer(start: Start) -> list[str]:
    """`ray.serve.llm.build_openai_app` with an engine of its own that answers at once."""
    served = {
        "model_loading_config": {"model_id": ENDPOINT, "model_source": str(DEMO_LARGE)},
        "placement_group_config": {"bundles": [{"CPU": 1}]},
    }
    return [
        *(sys.executable, "-m", "ops.bench.engine.peer"),
        *("--config", start.written({"llm_configs": [served]}), "--port", str(start.port)),
    ]


@dataclass(frozen=True)
class Contestant:
    """A way to serve the upstream; without a command, the upstream itself.

    Attributes:
        command: what is run.
        environment: variables for it.
        models: the name to ask for, by what is asked for.
        health: the path that says when all is ready; none if it is as soon as it answers.
    """

    command: Callable[[Start], list[str]] | None
    environment: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(
        default_factory=lambda: {ENDPOINT: ENDPOINT, LITELLM: ENDPOINT}
    )
    health: str | None = None

    def variables(self, folder: Path) -> dict[str, str]:
        """The environment of its processes."""
        return {**os.environ, **self.environment, **_apart(folder)}


def _ours(
    flags: Mapping[str, str], *, in_router: bool = False, store: bool = False, metered: bool = True
) -> Contestant:
    secrets = {"BENCH_KEY": KEY, "UPSTREAM_KEY": "none"}
    models = {ENDPOINT: ENDPOINT, LITELLM: LITELLM, IN_TURN: "auto"}
    return Contestant(
        partial(application, in_router=in_router, store=store, metered=metered),
        {**_RAY, **flags, **secrets},
        models | ({SMART: "auto"} if store else {}),
        "/health/ready",
    )


def _apart(folder: Path) -> dict[str, str]:
    """What keeps several Rays and HAProxies on one machine apart."""
    files = {"CONFIG_FILE_LOC": "haproxy.cfg", "SOCKET_PATH": "a.sock"}
    files |= {"SERVER_STATE_BASE": "", "SERVER_STATE_FILE": "state"}
    files |= {"METRICS_SOCKET_PATH": "m.sock"}
    return {
        "RAY_TMPDIR": str(folder),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        **{f"RAY_SERVE_HAPROXY_{name}": str(folder / "ha" / file) for name, file in files.items()},
    }


def _peer(**flags: str) -> Contestant:
    engine = {"RAYLLM_VLLM_ENGINE_CLS": "ops.bench.overhead.engine.Engine", "HF_HUB_OFFLINE": "1"}
    return Contestant(peer, _RAY | flags | engine, {ENDPOINT: ENDPOINT})


CONTESTANTS = {
    "bare": Contestant(None),
    REFERENCE: Contestant(proxy, _PROXY),
    "litellm-2": Contestant(partial(proxy, workers=2), _PROXY),
    "ours": _ours(_FAST),
    "ours-store": _ours(_FAST, store=True),
    "ours-default": _ours(_DEFAULT),
    "ours-throughput": _ours(_THROUGHPUT),
    "ours-haproxy": _ours(_HAPROXY),
    "ours-haproxy-in-router": _ours(_HAPROXY, in_router=True),
    # For what the metrics cost; beside the same with them.
    f"ours{UNMETERED}": _ours(_FAST, metered=False),
    f"ours-store{UNMETERED}": _ours(_FAST, store=True, metered=False),
    f"ours-haproxy{UNMETERED}": _ours(_HAPROXY, metered=False),
    "ray-llm": _peer(**_DEFAULT),
    "ray-llm-haproxy": _peer(**_HAPROXY),
}

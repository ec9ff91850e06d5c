"""The application under test: its models, their fallbacks and their time limits."""

from dataclasses import dataclass
from typing import Any

# Backends: the openai library, and LiteLLM.
KINDS = ("vllm", "openai")
# USD for an input token; an output token costs ten times that.
PRICES = {"first": 1e-6, "small": 2e-6, "large": 4e-6}
# LiteLLM requires an API key: the environment variable of the replicas that holds it.
KEY_VARIABLE = "ENGINE_KEY"


@dataclass(frozen=True)
class Times:
    """Durations in seconds.

    Attributes:
        retry_after: what a provider asks for in `Retry-After`.
        first_token: the limit on the first token of a model that has fallbacks left.
        late: when the first token of a late model comes.
        silence: the limit on any pause of a model.
        down: the length of an outage.
        circuit: the time between two probes of an open circuit.
    """

    retry_after: float = 2.0
    first_token: float = 10.0
    late: float = 20.0
    silence: float = 30.0
    down: float = 60.0
    circuit: float = 10.0


def config(provider: str, times: Times) -> dict[str, Any]:
    """The application's config: a model of each kind, with the same two fallbacks: one with a
    smaller context window and one with a larger one."""

    def model(name: str, window: int) -> dict[str, Any]:
        price = PRICES[name.partition("-")[0]]
        return {
            "name": name,
            "backend": "vllm",
            "hostname": provider,
            "context_window": window,
            "cost_per_input_token": price,
            "cost_per_output_token": 10 * price,
            "timeout": times.silence,
            "first_token_timeout": times.first_token,
            "circuit": {"seconds": times.circuit},
        }

    hosted = {"hostname": f"{provider}/v1", "api_key": f"${{{KEY_VARIABLE}}}"}
    own: dict[str, dict[str, Any]] = {"vllm": {}, "openai": hosted}
    first = [
        {
            **model(f"first-{kind}", 1000),
            "backend": kind,
            "model": "first",
            "fallbacks": ["small", "large"],
            **own[kind],
        }
        for kind in KINDS
    ]
    # One router, since each router keeps its own record of recent failures.
    one = {"min_replicas": 1, "max_replicas": 1}
    return {
        "llms": {"models": [*first, model("small", 500), model("large", 4000)]},
        "server": {"autoscaling": one},
    }

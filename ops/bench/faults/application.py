"""The application that is tested: its models, their fallbacks and their time limits."""

from dataclasses import dataclass
from typing import Any

# The openai library, and LiteLLM.
KINDS = ("vllm", "openai")
# USD for a token of the prompt; one of the answer costs ten times that.
PRICES = {"first": 1e-6, "small": 2e-6, "large": 4e-6}
# LiteLLM wants a key: the environment variable of the replicas that holds it.
KEY_VARIABLE = "ENGINE_KEY"


@dataclass(frozen=True)
class Times:
    """Seconds: `retry_after` that a provider wants, `first_token` that a model has where another is
    left, `late` that one takes, `silence` that is too long, `down` of an outage, `circuit` between
    two probes."""

    retry_after: float = 2.0
    first_token: float = 10.0
    late: float = 20.0
    silence: float = 30.0
    down: float = 60.0
    circuit: float = 10.0


def config(provider: str, times: Times) -> dict[str, Any]:
    """The application's: a model of each kind, and two that either falls back to. Of these one has
    a smaller context window and one a larger one."""

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
    beside: dict[str, dict[str, Any]] = {"vllm": {}, "openai": hosted}
    first = [
        {
            **model(f"first-{kind}", 1000),
            "backend": kind,
            "model": "first",
            "fallbacks": ["small", "large"],
            **beside[kind],
        }
        for kind in KINDS
    ]
    # One router: what a model did last is known to each router alone.
    one = {"min_replicas": 1, "max_replicas": 1}
    return {
        "llms": {"models": [*first, model("small", 500), model("large", 4000)]},
        "server": {"autoscaling": one},
    }

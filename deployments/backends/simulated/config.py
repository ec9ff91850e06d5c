"""The configuration of a simulated model."""

from typing import Annotated, Any, Literal

from pydantic import Field

from deployments.config import ModelConfig

Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class SimulatedConfig(ModelConfig):
    """A model made of time, for load tests and capacity planning without GPUs.

    It computes nothing: its answers are filler words, and they come as fast as its keys say.
    """

    backend: Literal["simulated"]
    """Not a real model: it takes time, and writes filler words."""
    places: Annotated[int, Field(ge=1)] = 8
    """Requests that a replica works on at a time. More of them wait inside it, in their order, so
    give `max_ongoing_requests` beside it if they should rather wait where a new replica can take
    them."""
    prefill_tokens_per_second: Rate = 8000.0
    """Tokens of a prompt that each place reads in a second. A token is four bytes."""
    tokens_per_second: Rate = 50.0
    """Tokens that each place writes in a second."""
    start_seconds: Annotated[float, Field(ge=0, le=3600)] = 0.0
    """How long a replica takes to start, from the start of its process on."""
    answer_tokens: Annotated[int, Field(ge=1)] = 64
    """The length of an answer whose request has no `max_tokens`; otherwise it is as long as that
    allows."""
    context_window: Annotated[int, Field(ge=1, le=10_000_000)] = 131_072
    """Tokens of prompt and answer together; an answer ends where they do."""
    cpus: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01
    """CPUs that Ray reserves for a replica."""
    gpus: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """GPUs that Ray reserves for a replica, as for the model it stands for. It uses none."""

    @property
    def ray_actor_options(self) -> dict[str, Any]:
        # Ray gives processes that wait idle to actors without an environment of their own. They
        # have begun long ago, so `start_seconds` would have passed already.
        environment = {"env_vars": {"LLM_SIMULATED": self.name}}
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, "runtime_env": environment}

    @property
    def what_runs(self) -> str:
        return "simulated, no real model"

"""Promise: all models are those that stand for themselves; an adapter is chosen by its name."""

import pytest

from deployments.config import EngineConfig, LiteLLMConfig
from deployments.errors import ModelNotFound
from serve.candidates import AUTO, candidates

OWN = EngineConfig(name="own", backend="vllm", adapters={"sql": "x"})
MODELS = {model.name: model for model in (*OWN.served, LiteLLMConfig(name="gpt", backend="openai"))}


@pytest.mark.parametrize(
    ("model", "allowed", "names"),
    [
        (AUTO, None, ["own", "gpt"]),
        (AUTO, ["own:sql", "gpt", "own:sql"], ["own:sql", "gpt"]),
        ("own:sql", None, ["own:sql"]),
    ],
)
def test_a_request_allows_what_it_names(
    model: str, allowed: list[str] | None, names: list[str]
) -> None:
    assert candidates(model, allowed, MODELS) == names


def test_who_may_ask_for_adapters_alone_is_told_to_name_one() -> None:
    with pytest.raises(ModelNotFound, match="name one of: own:sql"):
        candidates(AUTO, None, {"own:sql": MODELS["own:sql"]})


def test_an_adapter_that_is_not_configured_is_no_model() -> None:
    with pytest.raises(ModelNotFound, match="own:none"):
        candidates("own:none", None, MODELS)

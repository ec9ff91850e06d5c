"""Promise: "auto" stands for all models but adapters, and only able models are candidates."""

import pytest

from deployments.backends.litellm.config import LiteLLMConfig
from deployments.backends.vllm.config import EngineConfig
from deployments.contract import ChatRequest
from deployments.errors import InvalidRequest, ModelNotFound, UnsupportedParameter
from serve.dispatch.candidates import AUTO, able, candidates, needs

OWN = EngineConfig.model_validate({"name": "own", "backend": "vllm", "adapters": {"sql": "x"}})
MODELS = {model.name: model for model in (*OWN.served, LiteLLMConfig(name="gpt", backend="openai"))}


@pytest.mark.parametrize(
    ("model", "allowed", "names"),
    [
        (AUTO, None, ["own", "gpt"]),
        (AUTO, ["own:sql", "gpt", "own:sql"], ["own:sql", "gpt"]),
        ("own:sql", None, ["own:sql"]),
    ],
)
def test_a_request_may_be_answered_by_the_models_it_names(
    model: str, allowed: list[str] | None, names: list[str]
) -> None:
    assert candidates(model, allowed, MODELS) == names


def test_a_model_that_embeds_is_no_candidate_and_the_caller_is_told_what_to_do() -> None:
    assert candidates(AUTO, None, MODELS, ["vectors"]) == ["own", "gpt"]
    for model, allowed, param in [("vectors", None, "model"), (AUTO, ["gpt", "vectors"], "models")]:
        with pytest.raises(InvalidRequest, match="use POST /v1/embeddings for it") as error:
            candidates(model, allowed, MODELS, ["vectors"])
        assert error.value.param == param


def test_auto_for_a_caller_of_adapters_alone_asks_for_a_name() -> None:
    with pytest.raises(ModelNotFound, match="name one of: own:sql"):
        candidates(AUTO, None, {"own:sql": MODELS["own:sql"]})


def test_an_unknown_adapter_is_not_found() -> None:
    with pytest.raises(ModelNotFound, match="own:none"):
        candidates("own:none", None, MODELS)


def test_only_what_no_model_supports_is_named() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    tool = {"type": "function", "function": {"name": "f"}}
    messages = [{"role": "user", "content": [image]}]
    fields = {"model": AUTO, "messages": messages, "tools": [tool]}
    request = ChatRequest.model_validate(fields)
    without = {
        name: LiteLLMConfig(name=name, backend="openai", capabilities=frozenset({"tools"}))
        for name in ("a", "b")
    }
    with pytest.raises(UnsupportedParameter, match=r"^images: not supported by a, b$") as refused:
        able(needs(request), ["a", "b"], without)
    assert refused.value.param == "messages.0.content"

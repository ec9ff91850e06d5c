"""Which models may answer a request."""

from collections.abc import Collection, Mapping, Sequence

from deployments.config import Capability, ModelConfig
from deployments.contract import ChatRequest
from deployments.errors import InvalidRequest, ModelNotFound, UnsupportedParameter

# The model name that means all models.
AUTO = "auto"


def candidates(
    model: str,
    allowed: Sequence[str] | None,
    models: Mapping[str, ModelConfig],
    embedders: Collection[str] = (),
) -> list[str]:
    """The models that a request names in `model` or `models`, without duplicates. "auto" alone
    means all models except adapters, which are only used by name.

    Args:
        model: the request's `model`.
        allowed: its `models`.
        models: those that answer.
        embedders: the names of models that embed instead.

    Raises:
        ModelNotFound: a name is unknown, or "auto" matches no model.
        InvalidRequest: both fields name models, or one names a model that embeds.
    """
    if model != AUTO and allowed is not None:
        raise InvalidRequest(
            f"give either `model: '{model}'` or `models` with `model: '{AUTO}'`, not both",
            param="models",
        )
    everyone = (name for name, config in models.items() if config.parent is None)
    names = list(dict.fromkeys(allowed or everyone)) if model == AUTO else [model]
    for name in names:
        if name in embedders:
            raise InvalidRequest(
                f"model '{name}' only embeds texts and can't chat; use POST /v1/embeddings for it",
                param="model" if allowed is None else "models",
            )
        if name not in models:
            known = ", ".join([AUTO, *models])
            raise ModelNotFound(
                f"there is no model '{name}'; there are: {known}",
                param="model" if allowed is None else "models",
            )
    if not names:
        raise ModelNotFound(
            f"'{AUTO}' matches no model here; name one of: {', '.join(models)}", param="model"
        )
    return names


def able(
    needed: Mapping[Capability, str], names: Sequence[str], models: Mapping[str, ModelConfig]
) -> list[str]:
    """Those of the named models that support what a request `needs`.

    Raises:
        UnsupportedParameter: none of them can.
    """
    left = [name for name in names if needed.keys() <= models[name].abilities]
    if not left:
        abilities = frozenset().union(*(models[name].abilities for name in names))
        # If each is supported by some model, then no model supports them all.
        lacking = [ability for ability in needed if ability not in abilities] or list(needed)
        raise UnsupportedParameter(
            f"{' and '.join(lacking)}: not supported by {', '.join(names)}",
            param=needed[lacking[0]],
        )
    return left


def fallbacks(
    needed: Mapping[Capability, str], names: Sequence[str], models: Mapping[str, ModelConfig]
) -> list[str]:
    """The configured fallbacks of the named models that support what a request `needs`."""
    configured = (fallback for name in names for fallback in models[name].fallbacks)
    return [
        name
        for name in dict.fromkeys(configured)
        # The caller may not be allowed to use every fallback.
        if name in models and needed.keys() <= models[name].abilities
    ]


def needs(request: ChatRequest) -> dict[Capability, str]:
    """The capabilities that a request needs, each with the request's field that asks for it."""
    needed: dict[Capability, str] = {}
    if request.tools and request.tool_choice != "none":
        needed["tools"] = "tools"
    if request.wants_json:
        needed["json"] = "response_format"
    for index, message in enumerate(request.messages):
        content = message.get("content")
        if isinstance(content, list) and any(part["type"] == "image_url" for part in content):
            needed["images"] = f"messages.{index}.content"
    return needed

"""The libraries that LiteLLM imports only once a request for their provider comes."""

import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec

from deployments.backends.litellm.config import LiteLLMConfig

# A module, and what pip installs to bring it.
_Library = tuple[str, str]

_AZURE_IDENTITY = ("azure.identity", "llm-cores-on-ray-serve[azure]")
_DATABRICKS_SDK = ("databricks.sdk", "llm-cores-on-ray-serve[databricks]")
_GOOGLE_AUTH = ("google.auth", "llm-cores-on-ray-serve[vertex-ai]")
_VERTEX_SDK = ("vertexai", "llm-cores-on-ray-serve[vertex-ai]")


def check_libraries(config: LiteLLMConfig) -> None:
    """Checks that the libraries of the model's provider are installed.

    Raises:
        ValueError: one is missing; the message has the model and the command that installs it.
    """
    needed = _NEEDED.get(config.provider)
    library = needed(config) if needed else None
    if library and not _is_installed(library[0]):
        module, requirement = library
        raise ValueError(
            f"model '{config.name}': backend '{config.backend}' needs the Python module "
            f"'{module}', which is not installed; run: pip install '{requirement}'"
        )


def _azure(config: LiteLLMConfig) -> _Library | None:
    """Signing in to Entra ID instead of sending a key."""
    if _is_set("AZURE_CLIENT_ID", "AZURE_USERNAME", "AZURE_PASSWORD"):
        return _AZURE_IDENTITY
    if config.api_key or _is_set("AZURE_API_KEY") or _is_set("AZURE_OPENAI_API_KEY"):
        return None
    principal = _is_set("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET")
    return _AZURE_IDENTITY if principal else None


def _databricks(config: LiteLLMConfig) -> _Library | None:
    """Databricks' own search for the workspace and for credentials."""
    workspace = config.hostname or _is_set("DATABRICKS_API_BASE")
    key = config.api_key or _is_set("DATABRICKS_API_KEY")
    secret = _is_set("DATABRICKS_CLIENT_ID", "DATABRICKS_CLIENT_SECRET")
    return None if workspace and (key or secret) else _DATABRICKS_SDK


def _vertex_ai(config: LiteLLMConfig) -> _Library:
    """Gemini and partners' models are called over HTTP, all others by Google's SDK."""
    from deployments.backends.litellm import backend as litellm_backend  # noqa: F401 - it sets what LiteLLM reads at its import

    # isort: split
    from litellm.llms.vertex_ai.common_utils import VertexAIModelRoute, get_vertex_ai_model_route

    model = config.litellm_model.removeprefix(f"{config.provider}/")
    over_http = {
        VertexAIModelRoute.GEMINI,
        VertexAIModelRoute.PARTNER_MODELS,
        VertexAIModelRoute.AGENT_ENGINE,
    }
    route = get_vertex_ai_model_route(model, {"api_base": config.hostname})
    return _GOOGLE_AUTH if route in over_http else _VERTEX_SDK


_NEEDED: Mapping[str, Callable[[LiteLLMConfig], _Library | None]] = {
    "azure": _azure,
    "azure_ai": _azure,
    "azure_text": _azure,
    "databricks": _databricks,
    "vertex_ai": _vertex_ai,
}


def _is_set(*names: str) -> bool:
    return all(os.environ.get(name) for name in names)


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that it is in
        return False

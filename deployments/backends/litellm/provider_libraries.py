"""The libraries that LiteLLM imports only for a request to their provider."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

# A module, and what pip installs to bring it.
_Library = tuple[str, str]

_AZURE_IDENTITY = ("azure.identity", "llm-cores-on-ray-serve[azure]")
_DATABRICKS_SDK = ("databricks.sdk", "llm-cores-on-ray-serve[databricks]")
_GOOGLE_AUTH = ("google.auth", "llm-cores-on-ray-serve[vertex-ai]")
_VERTEX_SDK = ("vertexai", "llm-cores-on-ray-serve[vertex-ai]")


@dataclass(frozen=True)
class _Model:
    name: str
    hostname: str | None
    has_key: bool


def missing_library(
    provider: str, model: str, *, hostname: str | None, has_key: bool
) -> str | None:
    """Names a library that a model's provider needs and that is not installed, and the command that
    installs it; None if nothing is missing.

    Args:
        provider: its name at LiteLLM.
        model: the provider's name for the model.
        hostname: the configured one.
        has_key: whether a key is configured.
    """
    needed = _NEEDED.get(provider)
    library = needed(_Model(model, hostname, has_key)) if needed else None
    if library is None or _is_installed(library[0]):
        return None
    module, requirement = library
    return (
        f"needs the Python module '{module}', which is not installed; "
        f"run: pip install '{requirement}'"
    )


def _azure(model: _Model) -> _Library | None:
    """Signing in to Entra ID instead of sending a key."""
    if _is_set("AZURE_CLIENT_ID", "AZURE_USERNAME", "AZURE_PASSWORD"):
        return _AZURE_IDENTITY
    if model.has_key or _is_set("AZURE_API_KEY") or _is_set("AZURE_OPENAI_API_KEY"):
        return None
    principal = _is_set("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET")
    return _AZURE_IDENTITY if principal else None


def _databricks(model: _Model) -> _Library | None:
    """Databricks' SDK looks for the workspace or for credentials."""
    workspace = model.hostname or _is_set("DATABRICKS_API_BASE")
    key = model.has_key or _is_set("DATABRICKS_API_KEY")
    secret = _is_set("DATABRICKS_CLIENT_ID", "DATABRICKS_CLIENT_SECRET")
    return None if workspace and (key or secret) else _DATABRICKS_SDK


def _vertex_ai(model: _Model) -> _Library:
    """Gemini and partners' models are called over HTTP, all others by Google's SDK."""
    # LiteLLM takes seconds to import, so only where such a model is configured.
    from litellm.llms.vertex_ai.common_utils import VertexAIModelRoute, get_vertex_ai_model_route

    over_http = {
        VertexAIModelRoute.GEMINI,
        VertexAIModelRoute.PARTNER_MODELS,
        VertexAIModelRoute.AGENT_ENGINE,
    }
    route = get_vertex_ai_model_route(model.name, {"api_base": model.hostname})
    return _GOOGLE_AUTH if route in over_http else _VERTEX_SDK


_NEEDED: Mapping[str, Callable[[_Model], _Library | None]] = {
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
    except ModuleNotFoundError:  # its parent package is missing, too
        return False

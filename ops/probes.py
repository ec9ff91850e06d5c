"""Asks providers for their free lists of models: do they respond, accept the key, know the model?

Sources: https://platform.openai.com/docs/api-reference/models/list,
https://docs.claude.com/en/api/models-list, https://ai.google.dev/api/models,
https://github.com/ollama/ollama/blob/main/docs/api.md#list-local-models
"""

import asyncio
import json
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any
from urllib.parse import quote

import httpx

from deployments.backends.litellm.config import LiteLLMConfig
from deployments.backends.openai_endpoint.config import EndpointConfig
from deployments.causes import system_reason
from deployments.config import HostedConfig

TIMEOUT_S = 10.0
_MAX_LIST_BYTES = 16 * 2**20
_MAX_CONCURRENT = 16

# Providers that speak OpenAI's format, beside those that LiteLLM knows as such, with their URL
# unless LiteLLM knows it.
_OPENAI_COMPATIBLE = {
    "openai": "https://api.openai.com/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "mistral": None,
    "deepseek": None,
    "custom_openai": None,
    "openai_like": None,
}


@dataclass(frozen=True)
class Listing:
    """Where a provider lists its models.

    Attributes:
        url: contains no secret.
        headers: with the key, if there is one.
        has_key: whether there is one.
        configured: whether the operator named the server, rather than a default applying.
    """

    url: str
    headers: Mapping[str, str] = field(repr=False)
    has_key: bool
    configured: bool


@dataclass(frozen=True)
class Finding:
    """The result of a probe.

    Attributes:
        works: None if that can't be known.
        says: a line for the operator; contains no secret.
        seconds: how long the response took; None if no request was sent.
    """

    works: bool | None
    says: str
    seconds: float | None = None


def listing_of(config: HostedConfig) -> Listing | None:
    """The listing for a model; None if its provider is not known to have a free one.

    Raises:
        ValueError: the model's key is not set.
    """
    key = config.resolve_api_key()
    if isinstance(config, EndpointConfig):
        return _openai(config.base_url, key, True)
    if not isinstance(config, LiteLLMConfig):
        return None
    # As LiteLLM resolves what isn't configured: a key must never reach another provider's server.
    base = config.hostname or _setting("BASE_URL", config) or _setting("API_BASE", config)
    key = key or _setting("API_KEY", config)
    if config.provider == "anthropic":
        return _anthropic(base, key)
    if config.provider == "gemini":
        return _gemini(base, key or os.environ.get("GOOGLE_API_KEY"))
    if config.provider in ("ollama", "ollama_chat"):
        return _ollama(base, key)
    import litellm  # here, since it takes seconds

    if config.provider not in {*_OPENAI_COMPATIBLE, *litellm.openai_compatible_providers}:
        return None
    _, _, key, default = litellm.get_llm_provider(config.litellm_model, api_base=base, api_key=key)
    configured = base is not None
    base = base or default or _OPENAI_COMPATIBLE.get(config.provider)
    return _openai(base, key, configured) if base else None


def _setting(name: str, config: LiteLLMConfig) -> str | None:
    """A setting of a provider, from the environment."""
    provider = config.provider.removesuffix("_chat").upper()
    return os.environ.get(f"{provider}_{name}")


def _openai(base: str, key: str | None, configured: bool) -> Listing:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return Listing(f"{base.rstrip('/')}/models", headers, bool(key), configured)


def _anthropic(base: str | None, key: str | None) -> Listing:
    root = (base or "https://api.anthropic.com").rstrip("/")
    root = root.removesuffix("/messages").removesuffix("/v1")
    headers = {"anthropic-version": "2023-06-01"} | ({"x-api-key": key} if key else {})
    return Listing(f"{root}/v1/models?limit=1000", headers, bool(key), base is not None)


def _gemini(base: str | None, key: str | None) -> Listing:
    root = (base or "https://generativelanguage.googleapis.com/v1beta").rstrip("/")
    headers = {"x-goog-api-key": key} if key else {}
    return Listing(f"{root}/models?pageSize=1000", headers, bool(key), base is not None)


def _ollama(base: str | None, key: str | None) -> Listing:
    root = base or "http://localhost:11434"
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return Listing(f"{root.rstrip('/')}/api/tags", headers, bool(key), True)


async def probe(models: Mapping[int, tuple[Listing, str]]) -> dict[int, Finding]:
    """Looks up models concurrently, requesting each list once.

    Args:
        models: by any number, each model's listing and its name there.
    """
    limit = asyncio.Semaphore(_MAX_CONCURRENT)
    async with httpx.AsyncClient(timeout=TIMEOUT_S) as client:

        async def fetch(listing: Listing) -> "_Listed | Finding":
            async with limit:
                return await _fetch(client, listing)

        async def find(listing: Listing, name: str) -> Finding:
            listed = fetched[_identity(listing)]
            if isinstance(listed, Finding):
                return listed
            async with limit:
                return await _find(client, listing, listed, name)

        listings = {_identity(listing): listing for listing, _ in models.values()}
        results = await asyncio.gather(*map(fetch, listings.values()))
        fetched = dict(zip(listings, results, strict=True))
        findings = await asyncio.gather(*(find(*model) for model in models.values()))
    return dict(zip(models, findings, strict=True))


def _identity(listing: Listing) -> tuple[str, tuple[tuple[str, str], ...]]:
    return listing.url, tuple(listing.headers.items())


@dataclass(frozen=True)
class _Listed:
    names: Collection[str]
    seconds: float
    note: str


async def _fetch(client: httpx.AsyncClient, listing: Listing) -> _Listed | Finding:
    began = time.monotonic()

    def elapsed() -> float:
        return time.monotonic() - began

    try:
        async with asyncio.timeout(TIMEOUT_S):
            status, body = await _get(client, listing.url, listing.headers)
            if failure := _failure(status, listing):
                return Finding(*failure, elapsed())
            seconds = elapsed()
    except (TimeoutError, httpx.TimeoutException):
        return Finding(False, f"no response within {TIMEOUT_S:g} s", elapsed())
    except httpx.ConnectError as error:
        return Finding(False, f"can't be reached: {system_reason(error) or error}", elapsed())
    except httpx.HTTPError as error:
        return Finding(False, f"connection lost: {type(error).__name__}", elapsed())
    except (httpx.InvalidURL, UnicodeError):
        return Finding(False, "no request could be sent: malformed hostname or API key")
    names = _names(body)
    if names is None:
        return Finding(False, "did not return a list of models", seconds)
    is_public = listing.has_key and await _is_public(client, listing)
    note = "; the list is public, so the API key was not verified" if is_public else ""
    return _Listed(names, seconds, note)


async def _is_public(client: httpx.AsyncClient, listing: Listing) -> bool:
    """Whether the list is returned without a key."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            status, _ = await _get(client, listing.url, {})
    except (TimeoutError, httpx.HTTPError):
        return False
    return status == 200


async def _get(
    client: httpx.AsyncClient, url: str, headers: Mapping[str, str]
) -> tuple[int, bytes]:
    async with client.stream("GET", url, headers=headers) as response:
        body = b""
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > _MAX_LIST_BYTES:
                break
        return response.status_code, body


def _failure(status: int, listing: Listing) -> tuple[bool | None, str] | None:
    """What a status other than 200 means. The provider's words are left out: they may quote the
    key."""
    if status == 200:
        return None
    if status in (401, 403):
        rejected = "the API key was rejected"
        missing = "an API key is required: set `api_key`"
        return False, f"{status}: {rejected if listing.has_key else missing}"
    if status in (404, 405):
        if not listing.configured:
            return None, f"not probed: no list of models at {_without_secrets(listing.url)}"
        hint = "" if "/v1" in listing.url else "; is /v1 missing from the hostname?"
        return False, f"{status}: no list of models at {_without_secrets(listing.url)}{hint}"
    return False, f"responded with status {status}"


def _without_secrets(url: str) -> str:
    # A URL from the environment may hold a password.
    return str(httpx.URL(url).copy_with(username="", password="", query=None))


def _names(body: bytes) -> set[str] | None:
    """The names in a list of models, in any of the providers' formats."""
    try:
        found: Any = json.loads(body)
        if isinstance(found, dict):
            found = found["data"] if "data" in found else found["models"]
        return {
            str(model.get("id") or model.get("name")).removeprefix("models/") for model in found
        }
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


async def _find(client: httpx.AsyncClient, listing: Listing, listed: _Listed, name: str) -> Finding:
    count = f"{len(listed.names)} model" + ("s" if len(listed.names) != 1 else "")
    if {name, f"{name}:latest"} & set(listed.names):
        return Finding(True, f"found in its list of {count}{listed.note}", listed.seconds)
    if await _is_known(client, listing, name):
        return Finding(True, f"found, although not in its list of {count}", listed.seconds)
    near = get_close_matches(name, listed.names, 1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return Finding(False, f"'{name}' is not in its list of {count}{hint}", listed.seconds)


async def _is_known(client: httpx.AsyncClient, listing: Listing, name: str) -> bool:
    """Whether the provider knows a name that it doesn't list, as Anthropic does with aliases."""
    url = f"{listing.url.partition('?')[0]}/{quote(name)}"
    try:
        async with asyncio.timeout(TIMEOUT_S):
            status, body = await _get(client, url, listing.headers)
        return status == 200 and bool({"id", "name"} & set(json.loads(body)))
    except (TimeoutError, httpx.HTTPError, ValueError, TypeError):
        return False

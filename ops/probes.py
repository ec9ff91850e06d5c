"""Asks providers for their free lists of models: do they answer, take the key, know the model?

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

PATIENCE_S = 10.0
_LONGEST = 16 * 2**20  # bytes of a list
_AT_ONCE = 16

# Of OpenAI's format, beside those that LiteLLM counts among them; and where they are, unless
# LiteLLM knows.
_OPENAI_LIKE = {
    "openai": "https://api.openai.com/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "mistral": None,
    "deepseek": None,
    "custom_openai": None,
    "openai_like": None,
}


@dataclass(frozen=True)
class Listing:
    """Where the models that a provider serves are listed.

    Attributes:
        url: without a secret.
        headers: with the key, if there is one.
        keyed: whether there is one.
        named: whether the operator named the server.
    """

    url: str
    headers: Mapping[str, str] = field(repr=False)
    keyed: bool
    named: bool


@dataclass(frozen=True)
class Finding:
    """What a probe found.

    Attributes:
        works: None if that can't be known.
        says: for the operator; without a secret.
        seconds: how long the answer took; None if nothing was asked.
    """

    works: bool | None
    says: str
    seconds: float | None = None


def listing_of(config: HostedConfig) -> Listing | None:
    """The list for a model; None if its provider is not known to have one that is free.

    Raises:
        ValueError: the model's key is not set.
    """
    key = config.resolve_api_key()
    if isinstance(config, EndpointConfig):
        return _openai(config.base_url, key, True)
    assert isinstance(config, LiteLLMConfig)  # the only other kind
    # As LiteLLM finds what isn't configured: a key must reach no other server than its own.
    base = config.hostname or _set("BASE_URL", config) or _set("API_BASE", config)
    key = key or _set("API_KEY", config)
    if config.provider == "anthropic":
        return _anthropic(base, key)
    if config.provider == "gemini":
        return _gemini(base, key or os.environ.get("GOOGLE_API_KEY"))
    if config.provider in ("ollama", "ollama_chat"):
        return _ollama(base, key)
    from deployments.backends.litellm import backend as litellm_backend  # noqa: F401 - it sets what LiteLLM reads at its import

    # isort: split
    import litellm

    if config.provider not in {*_OPENAI_LIKE, *litellm.openai_compatible_providers}:
        return None
    _, _, key, known = litellm.get_llm_provider(config.litellm_model, api_base=base, api_key=key)
    named = base is not None
    base = base or known or _OPENAI_LIKE.get(config.provider)
    return _openai(base, key, named) if base else None


def _set(what: str, config: LiteLLMConfig) -> str | None:
    """A setting of a provider, from the environment."""
    provider = config.provider.removesuffix("_chat").upper()
    return os.environ.get(f"{provider}_{what}")


def _openai(base: str, key: str | None, named: bool) -> Listing:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return Listing(f"{base.rstrip('/')}/models", headers, bool(key), named)


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
    """What providers say of models, all asked at once, for each list once.

    Args:
        models: for each model, by any number, its list and its name there.
    """
    turn = asyncio.Semaphore(_AT_ONCE)
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client:

        async def asked(listing: Listing) -> "_Listed | Finding":
            async with turn:
                return await _asked(client, listing)

        async def found(listing: Listing, name: str) -> Finding:
            answer = listed[_same(listing)]
            if isinstance(answer, Finding):
                return answer
            async with turn:
                return await _of_model(client, listing, answer, name)

        listings = {_same(listing): listing for listing, _ in models.values()}
        answers = await asyncio.gather(*map(asked, listings.values()))
        listed = dict(zip(listings, answers, strict=True))
        findings = await asyncio.gather(*(found(*model) for model in models.values()))
    return dict(zip(models, findings, strict=True))


def _same(listing: Listing) -> tuple[str, tuple[tuple[str, str], ...]]:
    return listing.url, tuple(listing.headers.items())


@dataclass(frozen=True)
class _Listed:
    names: Collection[str]
    seconds: float
    note: str


async def _asked(client: httpx.AsyncClient, listing: Listing) -> _Listed | Finding:
    began = time.monotonic()

    def took() -> float:
        return time.monotonic() - began

    try:
        async with asyncio.timeout(PATIENCE_S):
            status, body = await _get(client, listing.url, listing.headers)
            if refused := _refusal(status, listing):
                return Finding(*refused, took())
            seconds = took()
    except (TimeoutError, httpx.TimeoutException):
        return Finding(False, f"no answer within {PATIENCE_S:g} s", took())
    except httpx.ConnectError as error:
        return Finding(False, f"can't be reached: {(system_reason(error) or error)}", took())
    except httpx.HTTPError as error:
        return Finding(False, f"broke off: {type(error).__name__}", took())
    except (httpx.InvalidURL, UnicodeError):
        return Finding(False, "can't be asked: its hostname or its key is malformed")
    names = _names(body)
    if names is None:
        return Finding(False, "answers with something other than a list of models", seconds)
    is_open = listing.keyed and await _is_open(client, listing)
    note = "; the list is open, so this says nothing of the key" if is_open else ""
    return _Listed(names, seconds, note)


async def _is_open(client: httpx.AsyncClient, listing: Listing) -> bool:
    """Whether the list is shown without a key."""
    try:
        async with asyncio.timeout(PATIENCE_S):
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
            if len(body) > _LONGEST:
                break
        return response.status_code, body


def _refusal(status: int, listing: Listing) -> tuple[bool | None, str] | None:
    """What a status other than 200 means, without the provider's words: they may quote the key."""
    if status == 200:
        return None
    if status in (401, 403):
        return False, f"{status}: " + (
            "the key is refused" if listing.keyed else "it wants a key: give `api_key`"
        )
    if status in (404, 405):
        if not listing.named:
            return None, f"not probed: {_shown(listing.url)} is not there"
        hint = "" if "/v1" in listing.url else "; does the hostname lack /v1?"
        return False, f"{status}: no list of models at {_shown(listing.url)}{hint}"
    return False, f"answers with status {status}"


def _shown(url: str) -> str:
    # One from the environment may hold a password.
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


async def _of_model(
    client: httpx.AsyncClient, listing: Listing, listed: _Listed, name: str
) -> Finding:
    count = f"{len(listed.names)} model" + ("s" if len(listed.names) != 1 else "")
    if {name, f"{name}:latest"} & set(listed.names):
        return Finding(True, f"lists it, of {count}{listed.note}", listed.seconds)
    if await _is_known(client, listing, name):
        return Finding(True, f"knows it, though not among the {count} listed", listed.seconds)
    near = get_close_matches(name, listed.names, 1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return Finding(False, f"does not list '{name}', of {count}{hint}", listed.seconds)


async def _is_known(client: httpx.AsyncClient, listing: Listing, name: str) -> bool:
    """Whether the provider knows a name that it doesn't list, as Anthropic does with aliases."""
    url = f"{listing.url.partition('?')[0]}/{quote(name)}"
    try:
        async with asyncio.timeout(PATIENCE_S):
            status, body = await _get(client, url, listing.headers)
        return status == 200 and bool({"id", "name"} & set(json.loads(body)))
    except (TimeoutError, httpx.HTTPError, ValueError, TypeError):
        return False

"""Sends LiteLLM's requests to the providers that it calls by the openai library."""

import json
from typing import Any

import httpx
import openai

from deployments.internals import require

require(openai.AsyncOpenAI, "_prepare_url", "_make_status_error_from_response")


def check_client(client: openai.AsyncOpenAI) -> None:
    """Checks one of the openai library's clients, whose attributes exist only once it is made.

    Raises:
        RuntimeError: it lacks what `Chat` reads.
    """
    require(client, "_client", "_workload_identity_auth", "_provider_runtime")


class Chat:
    """Replaces the client's `chat`, whose `completions.with_raw_response.create` LiteLLM calls.
    That looks up the type of each field of a request, which takes as long as sending it."""

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        self._client = client
        self._as_usual = client.chat.completions.with_raw_response.create
        self._url = client._prepare_url("/chat/completions")
        headers = {"Authorization": f"Bearer {client.api_key}", **client.default_headers}
        self._headers = {name: value for name, value in headers.items() if isinstance(value, str)}
        # With others, the client does more than to send a request with a key.
        self._is_plain = (
            type(client) is openai.AsyncOpenAI
            and bool(client.api_key)
            and client._workload_identity_auth is None
            and client._provider_runtime is None
            and not client.default_query
        )
        self.completions = self
        self.with_raw_response = self

    async def create(self, **data: Any) -> Any:
        """Sends a request, and returns its response."""
        if not self._is_plain or not data.get("stream") or data.get("extra_query"):
            return await self._as_usual(**data)
        timeout = data.pop("timeout", None)
        headers = httpx.Headers(self._headers)
        headers.update(data.pop("extra_headers", None) or {})
        data |= data.pop("extra_body", None) or {}
        request = httpx.Request(
            "POST",
            self._url,
            headers=headers,
            content=json.dumps(data, separators=(",", ":"), allow_nan=False),
            extensions={"timeout": httpx.Timeout(timeout).as_dict()},
        )
        try:
            response = await self._client._client.send(request, stream=True)
            if not response.is_success:
                await response.aread()
        except httpx.TimeoutException as error:
            raise openai.APITimeoutError(request=request) from error
        except Exception as error:  # as the library's own client does
            raise openai.APIConnectionError(request=request) from error
        if not response.is_success:
            raise self._client._make_status_error_from_response(response)
        return OpenAIStream(response)


class OpenAIStream:
    """A stream of OpenAI's events that has begun, as the openai library's `AsyncStream`."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.headers: dict[str, str] = {}  # which LiteLLM only copies

    def parse(self) -> "OpenAIStream":
        """The stream of a response, which is this one."""
        return self

    def __aiter__(self) -> "OpenAIStream":
        return self  # as LiteLLM asks; `Events` reads the response

    async def aclose(self) -> None:
        """Closes the response."""
        await self.response.aclose()

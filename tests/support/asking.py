"""Asks a backend directly, as a replica does."""

from contextlib import aclosing
from typing import Any

from deployments.contract import Backend, ChatRequest, Chunk, merge


def ask(content: str = "What is 12 + 30?", /, **fields: Any) -> ChatRequest:
    """A request with one user message, unless `fields` has other messages."""
    messages = [{"role": "user", "content": content}]
    return ChatRequest.model_validate({"model": "ours", "messages": messages, **fields})


async def answer_to(backend: Backend, request: ChatRequest) -> Chunk:
    """The whole answer."""
    async with aclosing(backend.chat(request)) as chunks:
        return merge([chunk async for chunk in chunks])

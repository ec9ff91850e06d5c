"""Constrained decoding: grammars that hold an answer to a JSON schema or to tool calls."""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

from deployments.backends.huggingface.tools import check_tool, offered_tools, parameters_schema
from deployments.contract import ChatRequest
from deployments.errors import InvalidRequest
from deployments.json_schema import check_schema
from deployments.messages import Tool

# JSON on one line, as json.dumps writes it: weak models may otherwise write white space endlessly.
_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
# Compiled grammars in the cache; every turn of a chat needs the same one.
_CACHED_GRAMMARS = 128
# The most calls in one answer.
_MOST_CALLS = 32
# Bytes that close JSON, in the order they are tried: strings, then objects and lists, and last a
# comma, which leads on to a place that can be closed.
_CLOSERS = (b'"', b"}]", b",")
# The share of an answer's tokens reserved for closing its JSON, and its upper limit in tokens.
_RESERVE, _MOST_RESERVED = 0.25, 256


class Constraint:
    """The grammar of one answer and the answer's position in it.

    Args:
        matcher: the grammar, at its start.
        ends: tokens that end an answer.
        closers: groups of tokens that close JSON, in the order they are tried.
        limit: the most tokens that the answer may have.
    """

    def __init__(
        self, matcher: LLMatcher, ends: frozenset[int], closers: Sequence[list[int]], limit: int
    ) -> None:
        self._matcher = matcher
        self._ends = ends
        self._closers = closers
        self._left = limit
        self._reserve = min(int(limit * _RESERVE), _MOST_RESERVED)
        self._length = 0
        self._allowed: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)

    def read(self, answer: Sequence[int]) -> None:
        """Advances to the end of the answer so far, given as all of its tokens."""
        self._matcher.consume_tokens(list(answer[self._length :]))
        self._left -= len(answer) - self._length
        self._length = len(answer)

    def allowed(self, vocabulary: int) -> NDArray[np.bool_]:
        """(vocabulary,) which tokens the grammar allows next."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._allowed = np.zeros(vocabulary, dtype=np.bool_)
        known = np.unpackbits(bits, bitorder="little", count=min(vocabulary, 8 * len(bits)))
        self._allowed[: len(known)] = known
        return self._allowed

    def completed_by(self, answer: Sequence[int]) -> bool:
        """Whether the answer, all of its tokens, is complete without an end token."""
        self.read(answer)
        return bool(self._matcher.is_accepting() and self._matcher.is_stopped())

    def closing(self, wanted: int) -> list[int]:
        """The only tokens to choose from when the JSON should be closed; empty for no restriction.

        It should be closed when the model wants to end the answer before the grammar allows it, and
        when few tokens are left. So even a model that never ends a string produces valid JSON.

        Args:
            wanted: the model's likeliest token.
        """
        if self._left > self._reserve and wanted not in self._ends:
            return []
        for closers in (list(self._ends), *self._closers):
            if chosen := [token for token in closers if self._allowed[token]]:
                return chosen
        return []


class Grammars:
    """Makes each request's constraint from compiled grammars, which are cached.

    Args:
        tokenizer: the model's tokenizer in llguidance's form.
        ends: tokens that end an answer.
    """

    def __init__(self, tokenizer: LLTokenizer, ends: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._ends = frozenset(ends)
        singles = [[tokenizer.tokenize_bytes(bytes([b])) for b in group] for group in _CLOSERS]
        self._closers = [[ids[0] for ids in group if len(ids) == 1] for group in singles]
        self._compiled = lru_cache(maxsize=_CACHED_GRAMMARS)(self._compile)

    def constraint(self, request: ChatRequest, limit: int) -> Constraint | None:
        """The constraint of an answer of at most `limit` tokens; None if it has none.

        Raises:
            InvalidRequest: a schema is invalid, can't be satisfied, or can't be enforced.
        """
        grammar = self._grammar(request)
        if grammar is None:
            return None
        matcher = self._compiled(grammar).deep_copy()
        return Constraint(matcher, self._ends, self._closers, limit)

    def _grammar(self, request: ChatRequest) -> str | None:
        tools = offered_tools(request)
        for tool in tools:
            check_tool(tool)
        if request.named_tool is not None:
            return f"start: {self._json(parameters_schema(tools[0]), 'tools')}\n"
        if request.tool_choice == "required":
            return f"start: calls\n{self._calls(request, tools)}"
        wanted = request.response_format
        if wanted is None or wanted["type"] == "text":
            return None
        schema: Any = {"type": "object"}
        if wanted["type"] == "json_schema":
            schema = wanted["json_schema"].get("schema", {})
            check_schema(schema, "response_format", "response_format")
        answer = f"answer: {self._json(schema, 'response_format')}\n"
        if tools:
            return f"start: answer | calls\n{answer}{self._calls(request, tools)}"
        return f"start: answer\n{answer}"

    def _calls(self, request: ChatRequest, tools: Sequence[Tool]) -> str:
        single = request.parallel_tool_calls is False
        more = "" if single else f'(", " call){{0,{_MOST_CALLS - 1}}}'
        rules = [
            f'calls: "[" call {more} "]"',
            "call: " + " | ".join(f"call_{i}" for i in range(len(tools))),
        ]
        for i, tool in enumerate(tools):
            opening = f'{{"name": {json.dumps(tool["function"]["name"])}, "arguments": '
            rules.append(f'call_{i}: {json.dumps(opening)} arguments_{i} "}}"')
            rules.append(f"arguments_{i}: {self._json(parameters_schema(tool), 'tools')}")
        return "\n".join(rules) + "\n"

    def _json(self, schema: Any, param: str) -> str:
        """The right side of a rule for a schema, with a root of its own for references."""
        if schema is False:
            raise InvalidRequest(f"{param}: no value satisfies the schema `false`", param=param)
        text = json.dumps({**({} if schema is True else schema), "x-guidance": _LAYOUT})
        grammar = LLMatcher.grammar_from_json_schema(text)
        failed, messages = LLMatcher.validate_grammar_with_warnings(grammar, self._tokenizer)
        if failed:
            reason = messages[0].splitlines()[0]
            raise InvalidRequest(
                f"{param}: the schema can't be enforced on this model: {reason}", param=param
            )
        return f"%json {text}"

    def _compile(self, grammar: str) -> LLMatcher:
        matcher = LLMatcher(self._tokenizer, LLMatcher.grammar_from_lark(grammar))
        if matcher.is_error():
            # Each schema compiles by itself, so the combination is too large.
            reason = matcher.get_error().splitlines()[0]
            raise InvalidRequest(f"the schemas are too large in combination: {reason}")
        return matcher

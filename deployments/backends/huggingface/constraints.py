"""What an answer is held to while it is written: a JSON schema, or calls of tools."""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

from deployments.backends.huggingface.instructions import offered_tools
from deployments.contract import ChatRequest
from deployments.errors import InvalidRequest
from deployments.json_schema import check_schema
from deployments.messages import Tool

# JSON on one line, as json.dumps writes it: a weak model would lose itself in white space.
_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
# Compiled grammars kept; a chat asks for the same one in every turn.
_KEPT = 128
# Most calls in one answer that must call.
_MOST_CALLS = 32
# What closes JSON: the end itself, then strings, then objects and lists; last what leads on to it.
_CLOSERS = (b'"', b"}]", b",")
# The share of an answer's tokens that is kept for closing its JSON, and the most of them.
_RESERVE, _MOST_RESERVED = 0.25, 256


class Constraint:
    """One answer's grammar and how far the answer has come in it.

    Args:
        matcher: the grammar, at its start.
        ends: tokens that end an answer.
        closers: tokens that close JSON, in the order in which they are tried.
        limit: most tokens that the answer may have.
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

    @property
    def broken(self) -> bool:
        """Whether the grammar could not be followed to its end."""
        return bool(self._matcher.is_error())

    def read(self, answer: Sequence[int]) -> None:
        """Follows the answer so far, all of its tokens."""
        self._matcher.consume_tokens(list(answer[self._length :]))
        self._left -= len(answer) - self._length
        self._length = len(answer)

    def allowed(self, vocabulary: int) -> NDArray[np.bool_]:
        """For each token of the vocabulary, whether the grammar lets it come next."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._allowed = np.zeros(vocabulary, dtype=np.bool_)
        known = np.unpackbits(bits, bitorder="little", count=min(vocabulary, 8 * len(bits)))
        self._allowed[: len(known)] = known
        return self._allowed

    def completed_by(self, answer: Sequence[int]) -> bool:
        """Whether the answer, all of its tokens, is whole without a token that ends it."""
        self.read(answer)
        return bool(self._matcher.is_accepting() and self._matcher.is_stopped())

    def closing(self, wished: int) -> list[int]:
        """The tokens to choose from instead, where the JSON should come to its end.

        That is when the model wishes to end the answer and the grammar does not let it yet, and
        when few tokens are left: a model that never ends a string answers valid JSON all the same.

        Args:
            wished: the model's likeliest token.
        """
        if self._left > self._reserve and wished not in self._ends:
            return []
        for closers in (list(self._ends), *self._closers):
            if chosen := [token for token in closers if self._allowed[token]]:
                return chosen
        return []


class Grammars:
    """Makes the constraint of each request; the grammars are compiled once and kept.

    Args:
        tokenizer: the model's tokenizer, as the grammar library takes it.
        ends: tokens that end an answer.
    """

    def __init__(self, tokenizer: LLTokenizer, ends: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._ends = frozenset(ends)
        singles = [[tokenizer.tokenize_bytes(bytes([b])) for b in group] for group in _CLOSERS]
        self._closers = [[ids[0] for ids in group if len(ids) == 1] for group in singles]
        self._compiled = lru_cache(maxsize=_KEPT)(self._compile)

    def constraint(self, request: ChatRequest, limit: int) -> Constraint | None:
        """What an answer of at most `limit` tokens is held to; None leaves it free.

        Raises:
            InvalidRequest: a schema is broken, can't be satisfied, or needs what can't be enforced.
        """
        grammar = self._grammar(request)
        if grammar is None:
            return None
        matcher = self._compiled(grammar).deep_copy()
        return Constraint(matcher, self._ends, self._closers, limit)

    def _grammar(self, request: ChatRequest) -> str | None:
        tools = offered_tools(request)
        for tool in tools:
            _check_tool(tool)
        if request.named_tool is not None:
            return f"start: {self._json(_parameters(tools[0]), 'tools')}\n"
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
            rules.append(f"arguments_{i}: {self._json(_parameters(tool), 'tools')}")
        return "\n".join(rules) + "\n"

    def _json(self, schema: Any, param: str) -> str:
        """A rule's right side for a schema; each brings its own root for its references."""
        if schema is False:
            raise InvalidRequest(f"{param}: no value satisfies the schema false", param=param)
        text = json.dumps({**({} if schema is True else schema), "x-guidance": _LAYOUT})
        grammar = LLMatcher.grammar_from_json_schema(text)
        failed, messages = LLMatcher.validate_grammar_with_warnings(grammar, self._tokenizer)
        if failed:
            reason = messages[0].splitlines()[0]
            raise InvalidRequest(
                f"{param}: this model can't be held to the schema: {reason}", param=param
            )
        return f"%json {text}"

    def _compile(self, grammar: str) -> LLMatcher:
        matcher = LLMatcher(self._tokenizer, LLMatcher.grammar_from_lark(grammar))
        if matcher.is_error():
            # Each schema was tried alone, so it is their sum that is too much.
            reason = matcher.get_error().splitlines()[0]
            raise InvalidRequest(f"the schemas together are too much for this model: {reason}")
        return matcher


def _check_tool(tool: Tool) -> None:
    where = f"tools: '{tool['function']['name']}'"
    check_schema(_parameters(tool), where, "tools")
    if _parameters(tool)["type"] != "object":
        raise InvalidRequest(f"{where}: its parameters must be an object", param="tools")


def _parameters(tool: Tool) -> dict[str, Any]:
    """The schema of a tool's arguments, which are an object whatever else is said of them."""
    parameters = tool["function"].get("parameters")
    if parameters is None:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    return {"type": "object", **parameters}

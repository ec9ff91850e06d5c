"""Renders requests as prompts by the model's own chat template."""

from collections.abc import Sequence
from typing import Any

import jinja2
from transformers.utils.chat_template_utils import _get_template_variables

from deployments.backends.huggingface.config import HuggingFaceConfig
from deployments.backends.huggingface.tools import offered_tools
from deployments.backends.huggingface.turns import Turn, native_turns, plain_turns, without_system
from deployments.contract import ChatRequest
from deployments.errors import InvalidRequest, UnsupportedParameter

# Variables that the server sets, so a request can't. (`_get_template_variables`, which lists all of
# a template's, is private; no public function does.)
_RESERVED = frozenset({"messages", "tools", "documents", "add_generation_prompt"})


class ChatTemplate:
    """Renders requests as prompts.

    Raises:
        ValueError: the model has no chat template.
    """

    def __init__(self, tokenizer: Any, config: HuggingFaceConfig) -> None:
        self._tokenizer = tokenizer
        try:
            self._source: str = tokenizer.get_chat_template(tools=[])
        except ValueError as error:
            raise ValueError(
                f"model '{config.name}': '{config.provider_model}' has no chat template, so it "
                "can't answer chat requests"
            ) from error
        self._variables = _get_template_variables(self._source) - _RESERVED
        self._knows_tools = "tools" in _get_template_variables(self._source)
        self._knows_system = self._renders_system()

    def prompt(self, request: ChatRequest) -> list[int]:
        """The tokens of the prompt, including the start of the assistant's turn.

        Raises:
            InvalidRequest: the template rejects the messages.
            UnsupportedParameter: the template has no such option.
        """
        options = request.chat_template_kwargs or {}
        if unknown := sorted(set(options) - self._variables):
            raise UnsupportedParameter(
                f"the chat template of model '{request.model}' has no option '{unknown[0]}'",
                param="chat_template_kwargs",
            )
        try:
            turns = native_turns(request) if self._knows_tools else plain_turns(request)
            if not self._knows_system:
                turns = without_system(turns)
            tools = offered_tools(request) if self._knows_tools else []
            text = self._render(
                turns, tools, options, continues=bool(request.continue_final_message)
            )
        except (jinja2.TemplateError, TypeError, ValueError, RecursionError) as error:
            # Templates reject messages by raising, or by an operation that fails on them; messages
            # nested too deeply can't be rendered.
            raise InvalidRequest(
                f"the chat template of model '{request.model}' rejects the messages: {error}",
                param="messages",
            ) from error
        # The backend tokenizer is thread-safe; transformers' wrapper around it is not.
        tokens: list[int] = self._tokenizer.backend_tokenizer.encode(
            text, add_special_tokens=False
        ).ids
        return tokens

    def _render(
        self,
        turns: list[Turn],
        tools: Sequence[Any],
        options: dict[str, Any],
        *,
        continues: bool = False,
    ) -> str:
        text: str = self._tokenizer.apply_chat_template(
            turns,
            chat_template=self._source,
            tools=list(tools) or None,
            add_generation_prompt=not continues,
            continue_final_message=continues,
            tokenize=False,
            **options,
        )
        return text

    def _renders_system(self) -> bool:
        """Whether a system message reaches the prompt; some templates reject or drop it."""
        mark = "the system's own words"
        turns = [{"role": "system", "content": mark}, {"role": "user", "content": "the user's"}]
        try:
            return mark in self._render(turns, [], {})
        except jinja2.TemplateError:
            return False

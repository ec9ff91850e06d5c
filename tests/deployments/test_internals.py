"""Promise: a backend does not start if its library has lost a part that we use or replace."""

import os
import runpy
from types import SimpleNamespace
from typing import Any

import pytest

# As deployments.backends.litellm sets it, which must be before LiteLLM is imported.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import httpx
import litellm
import openai
from litellm import main, utils
from litellm.litellm_core_utils import url_utils
from litellm.litellm_core_utils.exception_mapping_utils import ExceptionCheckers
from litellm.llms.base_llm.base_model_iterator import BaseModelResponseIterator
from litellm.llms.openai.openai import OpenAIChatCompletion
from litellm.llms.openai_like.json_loader import JSONProviderRegistry
from litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini import VertexGeminiConfig
from openai._base_client import BaseClient
from transformers.generation.continuous_batching import model_runner
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessor,
)
from transformers.generation.continuous_batching.continuous_api import OutputRouter
from transformers.utils import chat_template_utils

from deployments.internals import replace, require

LITELLM = "deployments.backends.litellm.backend"
HUGGINGFACE = "deployments.backends.huggingface"


@pytest.mark.parametrize(
    ("module", "owner", "name"),
    [
        (LITELLM, url_utils, "validate_url"),  # guards against fetching callers' URLs
        (LITELLM, OpenAIChatCompletion, "_get_openai_client"),
        (LITELLM, ExceptionCheckers, "is_error_str_context_window_exceeded"),
        (LITELLM, JSONProviderRegistry, "list_providers"),
        (LITELLM, litellm, "user_url_validation"),
        (LITELLM, litellm, "drop_params"),
        (LITELLM, BaseModelResponseIterator, "_handle_string_chunk"),
        (LITELLM, BaseModelResponseIterator, "_string_to_dict_parser"),
        (LITELLM, VertexGeminiConfig, "_check_finish_reason"),
        (LITELLM, main, "get_model_info_helper"),
        (LITELLM, utils, "_remove_thought_signatures_from_messages"),
        (LITELLM, httpx.Cookies, "extract_cookies"),
        ("deployments.backends.litellm.openai_requests", BaseClient, "_prepare_url"),
        (
            "deployments.backends.litellm.openai_requests",
            BaseClient,
            "_make_status_error_from_response",
        ),
        (f"{HUGGINGFACE}.engine", OutputRouter, "deliver_batch"),
        (
            f"{HUGGINGFACE}.engine",
            model_runner,
            "infer_max_single_request_tokens",
        ),
        (
            f"{HUGGINGFACE}.chat_template",
            chat_template_utils,
            "_get_template_variables",
        ),
        (f"{HUGGINGFACE}.decoding", ContinuousBatchingLogitsProcessor, "prepare_tensor_args"),
    ],
)
def test_a_backend_does_not_start_without_what_it_replaces(
    monkeypatch: pytest.MonkeyPatch, module: str, owner: Any, name: str
) -> None:
    runpy.run_module(module)  # as it is imported, it starts
    monkeypatch.delattr(owner, name)
    with pytest.raises((RuntimeError, AttributeError, ImportError), match=name):
        runpy.run_module(module)


def test_a_stream_without_its_finish_reasons_is_refused() -> None:
    from deployments.backends.litellm.patches import check_stream

    parts = dict.fromkeys(
        ["received_finish_reason", "intermittent_finish_reason", "completion_stream"]
    )
    check_stream(SimpleNamespace(**parts, fetch_stream=None))
    with pytest.raises(RuntimeError, match="intermittent_finish_reason"):
        check_stream(SimpleNamespace(received_finish_reason=None))


def test_a_client_of_the_openai_library_without_what_is_read_is_refused() -> None:
    from deployments.backends.litellm.openai_requests import check_client

    check_client(openai.AsyncOpenAI(api_key="none"))
    with pytest.raises(RuntimeError, match="_client"):
        check_client(SimpleNamespace())  # type: ignore[arg-type]


def test_an_existing_attribute_is_replaced() -> None:
    library = SimpleNamespace(guard=1)
    replace(library, "guard", 2)
    assert library.guard == 2
    with pytest.raises(RuntimeError, match=r"no SimpleNamespace\.fence, which we rely on"):
        replace(library, "fence", 2)
    with pytest.raises(RuntimeError, match="fence"):
        require(library, "guard", "fence")

"""Loads a transformers model and its tokenizer, and reads from them what the backend needs."""

from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from deployments.backends.huggingface.config import HuggingFaceConfig

# Raised when a model is missing, broken, or needs a library that isn't installed.
_LOADING = (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError)
_DEFAULT_CONTEXT = 2048  # tokens; for a model whose config doesn't say


def load(config: HuggingFaceConfig) -> tuple[PreTrainedModel, Any]:
    """The model on its device, and its tokenizer.

    Raises:
        ValueError: either can't be loaded; the message says what to do.
    """
    name = config.provider_model
    placement = _placement(config)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForCausalLM.from_pretrained(name, dtype=config.dtype, **placement)
    except _LOADING as error:
        raise ValueError(
            f"model '{config.name}': '{name}' can't be loaded; set `model` to the folder of a "
            f"transformers model, or to the name of one on the hub if it can be reached: {error}"
        ) from error
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise ValueError(
            f"model '{config.name}': '{name}' has no fast tokenizer (tokenizer.json), which "
            "streaming needs"
        )
    return (model if placement else model.to(_device(config))), tokenizer


def _placement(config: HuggingFaceConfig) -> dict[str, Any]:
    """How accelerate places a model whose GPU memory is limited; empty for one that isn't.

    Ray shows a replica only its own GPUs, numbered from 0.
    """
    if not config.max_gpu_memory:
        return {}
    memory = dict(enumerate(config.max_gpu_memory.values()))
    return {"device_map": "sequential", "max_memory": memory}


def _device(config: HuggingFaceConfig) -> torch.device:
    """The device of any other model. A GPU of any number is the first that the replica sees."""
    wanted = config.eval_device or ("cuda" if config.num_gpus else "cpu")
    return torch.device(torch.device(wanted).type)


def end_tokens(model: PreTrainedModel, tokenizer: Any, config: HuggingFaceConfig) -> list[int]:
    """The tokens that end an answer, the model's and the tokenizer's.

    Raises:
        ValueError: there are none.
    """
    of_model = model.generation_config.eos_token_id
    ends = {of_model} if isinstance(of_model, int) else set(of_model or ())
    if tokenizer.eos_token_id is not None:
        ends.add(tokenizer.eos_token_id)
    if not ends:
        raise ValueError(
            f"model '{config.name}': '{config.provider_model}' has no end-of-sequence token; set "
            "eos_token_id in its generation_config.json"
        )
    return sorted(ends)


def context_window(model: PreTrainedModel, config: HuggingFaceConfig) -> int:
    """Tokens of prompt and answer together.

    Raises:
        ValueError: the configured window is larger than the model's.
    """
    longest: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if config.context_window is None:
        return longest or _DEFAULT_CONTEXT
    if longest is not None and config.context_window > longest:
        raise ValueError(
            f"model '{config.name}': context_window is {config.context_window}, but the model "
            f"supports at most {longest}"
        )
    return config.context_window

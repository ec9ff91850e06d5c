"""Promise: a model that can't be served is refused at start with what to do."""

from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_requests import config
from tiny_models import CONTEXT, random_model

from deployments.backends.huggingface.backend import HuggingFaceBackend
from deployments.backends.huggingface.loading import _device, _placement


def test_the_error_for_a_missing_model_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model 'tiny'.*set `model` to the folder"):
        HuggingFaceBackend(config(tmp_path / "missing"))
    folder = random_model(tmp_path)
    (folder / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ValueError, match="model 'tiny'"):
        HuggingFaceBackend(config(folder))


def test_a_model_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    folder = random_model(tmp_path)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match="no chat template"):
        HuggingFaceBackend(config(folder))


@pytest.mark.parametrize(
    ("fields", "device"),
    [
        ({}, "cpu"),
        ({"eval_device": "cpu"}, "cpu"),
        ({"eval_device": "cuda:3"}, "cuda"),
        ({"gpus": 0.5}, "cuda"),
    ],
)
def test_any_named_gpu_is_the_first_that_the_replica_sees(
    tmp_path: Path, fields: dict[str, Any], device: str
) -> None:
    given = config(tmp_path, **fields)
    assert (_device(given), _placement(given)) == (torch.device(device), {})


def test_a_memory_limit_applies_to_the_first_gpu_that_the_replica_sees(tmp_path: Path) -> None:
    placement = _placement(config(tmp_path, max_gpu_memory={3: "24GB"}))
    assert placement["max_memory"] == {0: "24GB"}


def test_a_context_window_larger_than_the_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="context_window"):
        HuggingFaceBackend(config(random_model(tmp_path), context_window=CONTEXT + 1))

"""Promise: a model's config becomes the deployment of Ray's that it describes, or is refused."""

import sys
from typing import Any

import pytest

from deployments.config import EngineConfig
from deployments.deploy import deploy

pytestmark = pytest.mark.usefixtures("ray_cluster")  # what places an engine asks Ray


def config(**fields: Any) -> EngineConfig:
    return EngineConfig(name="own", backend="vllm", model="org/model", **fields)


def options(**fields: Any) -> dict[str, Any]:
    """The options of the deployment that a model becomes."""
    deployment = deploy(config(**fields), "own")._bound_deployment
    replica = deployment._replica_config
    return {
        **deployment._deployment_config.model_dump(),
        "bundles": replica.placement_group_bundles,
        "strategy": replica.placement_group_strategy,
    }


def engine_arguments(**fields: Any) -> dict[str, Any]:
    """The arguments of vLLM's that a model's config becomes."""
    from deployments.vllm_replica import llm_config

    return dict(llm_config(config(**fields)).engine_kwargs)


@pytest.mark.parametrize(
    ("fields", "gpus"),
    [
        ({}, [1]),
        ({"gpus": 0.25}, [0.25]),
        ({"gpus": 4}, [1] * 4),
        ({"engine": {"tensor_parallel_size": 4, "pipeline_parallel_size": 2}}, [1] * 8),
        ({"gpus": 8, "engine": {"pipeline_parallel_size": 2}}, [1] * 8),
        ({"gpus": 0}, [0]),
    ],
)
def test_a_replica_asks_for_a_gpu_for_each_worker(fields: dict, gpus: list[float]) -> None:
    placed = options(**fields)
    assert [bundle.get("GPU", 0) for bundle in placed["bundles"]] == gpus
    assert sum(bundle.get("CPU", 0) for bundle in placed["bundles"]) == 1
    # On one node where it can be, on more where it must.
    assert placed["strategy"] == "PACK"


def test_a_replica_goes_where_the_accelerator_is() -> None:
    for bundle in options(gpus=2, accelerator_type="H100")["bundles"]:
        assert bundle["accelerator_type:H100"] > 0


def test_gpus_alone_part_each_layer_over_them() -> None:
    assert engine_arguments(gpus=4)["tensor_parallel_size"] == 4
    pipelined = engine_arguments(gpus=8, engine={"pipeline_parallel_size": 2})
    assert pipelined["tensor_parallel_size"] == 4
    assert "tensor_parallel_size" not in engine_arguments(gpus=0)


def test_what_is_passed_to_the_engine_is_passed_as_it_is() -> None:
    engine = {"max_model_len": 8192, "quantization": "fp8", "seed": 7}
    assert engine_arguments(engine=engine) == engine


def test_a_parser_of_tool_calls_is_used_without_a_further_switch() -> None:
    assert engine_arguments(engine={"tool_call_parser": "hermes"})["enable_auto_tool_choice"]
    off = {"tool_call_parser": "hermes", "enable_auto_tool_choice": False}
    assert engine_arguments(engine=off) == off


def test_adapters_have_room_beside_each_other() -> None:
    assert engine_arguments(adapters={"a": "x", "b": "y"})["max_loras"] == 2
    assert engine_arguments(adapters={"a": "x"}, engine={"max_loras": 3})["max_loras"] == 3


def test_replicas_scale_by_the_requests_they_have() -> None:
    scaled = options(autoscaling={"min_replicas": 1, "max_replicas": 8}, max_ongoing_requests=64)
    assert scaled["max_ongoing_requests"] == 64
    assert scaled["autoscaling_config"]["target_ongoing_requests"] == 32
    assert scaled["autoscaling_config"]["max_replicas"] == 8


def test_without_autoscaling_there_is_one_replica() -> None:
    fixed = options()
    assert (fixed["num_replicas"], fixed["autoscaling_config"]) == (1, None)
    assert fixed["max_ongoing_requests"] == config().max_ongoing_requests


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("max_modle_len", r"engine\.max_modle_len: vLLM has no such argument; .*'max_model_len'"),
        ("api_key", r"engine\.api_key: vLLM has no such argument"),
        ("port", r"engine\.port: vLLM has no such argument"),
    ],
)
def test_an_argument_that_has_no_meaning_is_refused(argument: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        deploy(config(engine={argument: "x"}), "own")


def test_without_vllm_the_install_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "deployments.vllm_replica", raising=False)
    monkeypatch.setitem(sys.modules, "ray.serve.llm", None)  # as if it could not be imported
    with pytest.raises(ValueError, match=r"pip install 'llm-cores-on-ray-serve\[vllm\]'.*hostname"):
        deploy(config(), "own")

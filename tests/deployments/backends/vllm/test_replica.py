"""Promise: a model's config becomes the Ray deployment that it describes, or is refused."""

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from serve_fixtures import in_repository

from deployments.backends.vllm.config import EngineConfig
from deployments.deploy import deploy
from serve.app import build
from serve.config import ConfigError

pytestmark = pytest.mark.usefixtures("ray_cluster")  # Ray is asked where an engine can go


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
    """The vLLM arguments that a model's config becomes."""
    from deployments.backends.vllm.replica import llm_config

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
def test_a_replica_asks_for_a_gpu_for_each_worker(
    fields: dict[str, Any], gpus: list[float]
) -> None:
    placed = options(**fields)
    assert [bundle.get("GPU", 0) for bundle in placed["bundles"]] == gpus
    assert sum(bundle.get("CPU", 0) for bundle in placed["bundles"]) == 1
    # On one node if possible, otherwise on several.
    assert placed["strategy"] == "PACK"


def test_a_replica_goes_where_the_accelerator_is() -> None:
    for bundle in options(gpus=2, accelerator_type="H100")["bundles"]:
        assert bundle["accelerator_type:H100"] > 0


def test_gpus_without_an_engine_setting_are_tensor_parallel() -> None:
    assert engine_arguments(gpus=4)["tensor_parallel_size"] == 4
    pipelined = engine_arguments(gpus=8, engine={"pipeline_parallel_size": 2})
    assert pipelined["tensor_parallel_size"] == 4
    assert "tensor_parallel_size" not in engine_arguments(gpus=0)


def test_engine_arguments_are_passed_unchanged() -> None:
    engine = {"max_model_len": 8192, "quantization": "fp8", "seed": 7}
    assert engine_arguments(engine=engine) == engine


def test_a_tool_call_parser_enables_tool_calls() -> None:
    assert engine_arguments(engine={"tool_call_parser": "hermes"})["enable_auto_tool_choice"]
    off = {"tool_call_parser": "hermes", "enable_auto_tool_choice": False}
    assert engine_arguments(engine=off) == off


def test_all_adapters_may_be_loaded_at_once() -> None:
    assert engine_arguments(adapters={"a": "x", "b": "y"})["max_loras"] == 2
    assert engine_arguments(adapters={"a": "x"}, engine={"max_loras": 3})["max_loras"] == 3


def test_replicas_scale_by_their_ongoing_requests() -> None:
    scaled = options(autoscaling={"min_replicas": 1, "max_replicas": 8}, max_ongoing_requests=64)
    assert scaled["max_ongoing_requests"] == 64
    assert scaled["autoscaling_config"]["target_ongoing_requests"] == 32
    assert scaled["autoscaling_config"]["max_replicas"] == 8


def test_with_an_slo_they_scale_by_their_work() -> None:
    scaled = options(autoscaling={"max_replicas": 8, "slo": {"ttft_s": 2}})["autoscaling_config"]
    assert scaled["policy"]["policy_function"] == "deployments.scaling.slo:SLOPolicy"
    assert scaled["policy"]["policy_kwargs"] == {"ttft_s": 2}


def test_without_autoscaling_there_is_one_replica() -> None:
    fixed = options()
    assert (fixed["num_replicas"], fixed["autoscaling_config"]) == (1, None)
    assert fixed["max_ongoing_requests"] == config().max_ongoing_requests


def test_replicas_that_share_a_gpu_take_a_part_of_its_memory() -> None:
    from deployments.backends.vllm.replica import llm_config

    shared = llm_config(config(gpus=0.5))
    assert shared.engine_kwargs["gpu_memory_utilization"] == 0.45
    assert shared.runtime_env is not None
    assert shared.runtime_env["env_vars"]["VLLM_RAY_PER_WORKER_GPUS"] == "0.5"
    own = llm_config(config(gpus=0.5, engine={"gpu_memory_utilization": 0.3}))
    assert own.engine_kwargs["gpu_memory_utilization"] == 0.3
    assert llm_config(config()).runtime_env is None


def test_an_object_store_without_the_model_is_not_the_hubs_model() -> None:
    from deployments.backends.vllm.replica import _check_model_was_found, llm_config

    stored = EngineConfig.model_validate(
        {"name": "gpt2", "backend": "vllm", "model": "s3://bucket/gpt2"}
    )
    with pytest.raises(ValueError, match="there is no model at s3://bucket/gpt2"):
        _check_model_was_found(llm_config(stored))
    _check_model_was_found(llm_config(config()))


@pytest.mark.parametrize(
    ("engine", "says"),
    [
        ({"max_modle_len": 1}, "engine: vLLM has no argument 'max_modle_len'; .*'max_model_len'"),
        ({"api_key": "x"}, "engine: vLLM has no argument 'api_key'"),
        ({"port": 1}, "engine: vLLM has no argument 'port'"),
        ({"tool_call_parser": "hermess"}, "no tool_call_parser 'hermess'; did you mean 'hermes'"),
        ({"reasoning_parser": "qwen33"}, "no reasoning_parser 'qwen33'; did you mean 'qwen3'"),
    ],
)
def test_unknown_engine_arguments_and_parsers_are_refused(
    engine: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        deploy(config(engine=engine), "own")


def test_parsers_from_a_plugin_are_left_to_vllm() -> None:
    engine = {"tool_call_parser": "mine", "tool_parser_plugin": "mine.py"}
    deploy(config(engine=engine), "own")


def test_every_model_that_cannot_be_deployed_is_named_at_once() -> None:
    own = {"name": "own", "backend": "vllm", "engine": {"port": 1}}
    with pytest.raises(ConfigError) as refusal:
        build({"llms": {"models": [own, {**own, "name": "b"}]}})
    assert "llms.models.0.engine: vLLM has no argument 'port'" in str(refusal.value)
    assert "llms.models.1.engine" in str(refusal.value)


WITHOUT_VLLM = """
import sys
sys.modules["vllm"] = None
from deployments.backends.vllm.config import EngineConfig
from deployments.deploy import deploy
try:
    deploy(EngineConfig(name="own", backend="vllm"), "own")
except ValueError as error:
    print(error)
"""


def test_without_vllm_the_install_line_is_given() -> None:
    said = subprocess.run(
        [sys.executable, "-c", WITHOUT_VLLM],
        cwd=in_repository("."),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert "pip install 'llm-cores-on-ray-serve[vllm]'" in said.stdout, said.stderr
    assert "hostname" in said.stdout
    assert "None)" not in said.stdout


async def test_a_replica_that_ends_reports_its_last_metrics() -> None:
    from deployments.backends.vllm.replica import VLLMReplica

    class Started(VLLMReplica):
        def __init__(self) -> None:
            self.ended: list[str] = []
            self._reporter: Any = SimpleNamespace(close=lambda: self.ended.append("reporter"))
            self.engine: Any = self

        async def shutdown(self) -> None:
            self.ended.append("engine")
            raise OSError("it is stuck")

        def __del__(self) -> None:  # type: ignore[override]  # Ray Serve would await it
            pass

    replica = Started()
    with pytest.raises(OSError, match="stuck"):
        await VLLMReplica.__del__(replica)
    assert replica.ended == ["engine", "reporter"]

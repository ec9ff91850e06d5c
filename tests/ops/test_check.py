"""Promise: `python -m ops.check` says which models would work here, at no cost."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_providers import SECRET, Fake, serving, silent
from provider_formats import listing
from serve_fixtures import DEMO_MODELS

from ops import check, probes
from ops.bench import fault_server
from ops.cli.app import alone
from ops.ports import free_port

Check = Callable[..., tuple[int, str]]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Check:
    """Checks models; returns the exit code and everything that was printed."""
    monkeypatch.setenv("TEST_KEY", SECRET)
    monkeypatch.setenv("WRONG_KEY", "sk-wrong-never-to-be-quoted")

    def run(*models: dict[str, Any], options: tuple[str, ...] = (), **llms: Any) -> tuple[int, str]:
        file = tmp_path / "my.yaml"
        file.write_text(yaml.safe_dump({"llms": {"models": list(models), **llms}}))
        with pytest.raises(SystemExit) as exit_info:
            alone("check", "ops.check", [str(file), *options])
        printed = capsys.readouterr()
        output = printed.out + printed.err
        assert SECRET not in output
        assert "sk-wrong" not in output
        assert isinstance(exit_info.value.code, int), output
        return exit_info.value.code, output

    return run


@pytest.fixture
def provider() -> Iterator[Fake]:
    with serving(listing("there", "other")) as fake:
        yield fake


def row(output: str, name: str) -> str:
    """A model's row of the table."""
    (line,) = (line for line in output.splitlines() if line.startswith(f"{name} "))
    return re.sub(" +", " ", line)


def test_models_are_looked_up_in_every_wire_format(run: Check, provider: Fake) -> None:
    code, output = run(
        *(
            {
                "name": f"{backend}-model",
                "backend": backend,
                "model": "there",
                "hostname": f"{provider.url}/{path}",
                "api_key": "${TEST_KEY}",
            }
            for backend, path in (
                ("openai", "openai/v1"),
                ("vllm", "openai"),
                ("groq", "openai/v1"),
                ("anthropic", "anthropic"),
                ("gemini", "gemini/v1beta"),
                ("ollama", "ollama"),
            )
        )
    )
    assert code == 0, output
    assert output.count("found in its list of 2 models") == 6
    assert "no problems found" in output
    # Free of charge: no request had a body.
    assert set(provider.requests) == {None}


def test_problems_at_the_provider_are_reported(run: Check, provider: Fake) -> None:
    def at(path: str, **more: Any) -> dict[str, Any]:
        return {"backend": "openai", "hostname": f"{provider.url}/{path}", **more}

    key, wrong = {"api_key": "${TEST_KEY}"}, {"api_key": "${WRONG_KEY}"}
    code, output = run(
        {"name": "wrong-key", "model": "there", **at("openai/v1", **wrong)},
        {"name": "no-such", "model": "theer", **at("openai/v1", **key)},
        {"name": "no-v1", "model": "there", **at("openai", **key)},
        {"name": "closed", "backend": "vllm", "hostname": f"http://127.0.0.1:{free_port()}"},
        {"name": "open", "model": "there", **at("open/v1", **wrong)},
        {"name": "unset", "model": "there", **at("openai/v1", api_key="${UNSET}")},
        {"name": "bedrock", "backend": "bedrock", "model": "there"},
        {"name": "misspelt", "backend": "opnai"},
    )
    assert code == 1
    for name, says in {
        "wrong-key": "401: the API key was rejected",
        "no-such": "'theer' is not in its list of 2 models; did you mean 'there'?",
        "no-v1": "404: no list of models at ",
        "closed": "can't be reached: Connection refused",
        "open": "the list is public, so the API key was not verified",
        "unset": "not probed: the API key is not set",
        "bedrock": "not probed: no free request is known",
        "misspelt": "not probed",
    }.items():
        assert says in row(output, name)
    problems = output[output.rindex("\n\n") :]
    for index in (0, 1, 2, 3, 5, 7):
        assert f"llms.models.{index}" in problems
    for index in (4, 6):
        assert f"llms.models.{index}" not in problems


def test_a_model_that_is_not_listed_may_still_be_known(run: Check, provider: Fake) -> None:
    anthropic = {"backend": "anthropic", "hostname": f"{provider.url}/anthropic"}
    alias = {"name": "alias", "model": "alias-of-there", "api_key": "${TEST_KEY}", **anthropic}
    code, output = run(alias)
    assert code == 0, output
    assert "found, although not in its list of 2 models" in row(output, "alias")


def test_settings_that_are_not_configured_come_from_the_environment(
    run: Check, provider: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.url}/openai/v1")
    code, output = run({"name": "by-environment", "backend": "openai", "model": "there"})
    assert code == 0, output
    assert "found in its list of 2 models" in row(output, "by-environment")
    elsewhere = f"{provider.url}/none".replace("://", f"://me:{SECRET}@")
    monkeypatch.setenv("OPENAI_BASE_URL", elsewhere)
    code, output = run({"name": "elsewhere", "backend": "openai", "model": "there"})
    assert f"404: no list of models at {provider.url}/none" in row(output, "elsewhere")


def test_a_silent_provider_is_given_up_on(run: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "TIMEOUT_S", 0.3)
    with serving(silent) as fake:
        code, output = run({"name": "silent", "backend": "vllm", "hostname": fake.url})
    assert code == 1
    assert "no response within 0.3 s" in row(output, "silent")


def test_prices_and_resources_are_shown(run: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "available_gpus", lambda: 0)
    priced = {"cost_per_input_token": 2e-6, "cost_per_output_token": 4e-6}
    folder = str(DEMO_MODELS / "demo-small")
    code, output = run(
        {"name": "listed", "backend": "bedrock", "model": "ai21.jamba-instruct-v1:0"},
        {"name": "own", "backend": "huggingface", "model": folder, **priced},
        {"name": "free", "backend": "huggingface", "model": folder, "cpus": 500},
        {"name": "engine", "backend": "vllm", "gpus": 4, "accelerator_type": "H100"},
    )
    assert code == 1
    assert "(LiteLLM's price list) shares a process: calls bedrock" in row(output, "listed")
    assert "2 / 4 (configured) CPU 0.5: transformers" in row(output, "own")
    assert "none CPU 500: transformers" in row(output, "free")
    assert "none CPU 1, GPU 4: vLLM engine" in row(output, "engine")
    assert "the models need CPU 501.6 in total" in output
    assert "the models need GPU 4 in total, but this machine has 0" in output


def test_a_paid_request_is_sent_only_with_ask(run: Check) -> None:
    with fault_server.serving() as provider:
        models = [
            {
                "name": name,
                "backend": backend,
                "hostname": f"{provider.url}/v1",
                "api_key": "${TEST_KEY}",
            }
            for name, backend in (("healthy", "vllm"), ("no-such", "openai"))
        ]
        run(*models)
        assert provider.attempts == []
        code, output = run(*models, options=("--ask",))
    assert code == 1
    assert "answered" in row(output, "healthy")
    assert "was rejected by its provider" in row(output, "no-such")
    assert [attempt.body["max_tokens"] for attempt in provider.attempts] == [1, 1]

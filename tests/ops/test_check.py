"""Promise: `python -m ops.check` says which models would work here, and spends nothing."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_providers import SECRET, Fake, listing, serving, silent
from serve_fixtures import DEMO_MODELS, free_port

from ops import check, probes
from ops.bench import fault_server

Check = Callable[..., tuple[int, str]]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Check:
    """Checks models and gives the exit code with all that was printed."""
    monkeypatch.setenv("TEST_KEY", SECRET)
    monkeypatch.setenv("WRONG_KEY", "sk-wrong-never-to-be-quoted")

    def run(*models: dict[str, Any], options: tuple[str, ...] = (), **llms: Any) -> tuple[int, str]:
        file = tmp_path / "my.yaml"
        file.write_text(yaml.safe_dump({"llms": {"models": list(models), **llms}}))
        monkeypatch.setattr(sys, "argv", ["check", str(file), *options])
        with pytest.raises(SystemExit) as ended:
            check.main()
        printed = capsys.readouterr()
        output = printed.out + printed.err
        assert SECRET not in output
        assert "sk-wrong" not in output
        assert isinstance(ended.value.code, int), output
        return ended.value.code, output

    return run


@pytest.fixture
def provider() -> Iterator[Fake]:
    with serving(listing("there", "other")) as fake:
        yield fake


def row(output: str, name: str) -> str:
    """The line of the table for a model."""
    (line,) = (line for line in output.splitlines() if line.startswith(f"{name} "))
    return re.sub(" +", " ", line)


def test_each_wire_format_is_asked_for_its_list(run: Check, provider: Fake) -> None:
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
    assert output.count("lists it, of 2 models") == 6
    assert "no faults" in output
    # What costs nothing: no request with a body.
    assert set(provider.requests) == {None}


def test_faults_of_the_provider_are_told(run: Check, provider: Fake) -> None:
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
        "wrong-key": "401: the key is refused",
        "no-such": "does not list 'theer', of 2 models; did you mean 'there'?",
        "no-v1": "404: no list of models at ",
        "closed": "can't be reached: Connection refused",
        "open": "lists it, of 2 models; the list is open, so this says nothing of the key",
        "unset": "not probed: its key is not set",
        "bedrock": "not probed: no free request is known",
        "misspelt": "not probed",
    }.items():
        assert says in row(output, name)
    faults = output[output.rindex("\n\n") :]
    for index in (0, 1, 2, 3, 5, 7):
        assert f"llms.models.{index}" in faults
    for index in (4, 6):
        assert f"llms.models.{index}" not in faults


def test_a_name_that_is_not_listed_may_be_known(run: Check, provider: Fake) -> None:
    anthropic = {"backend": "anthropic", "hostname": f"{provider.url}/anthropic"}
    alias = {"name": "alias", "model": "alias-of-there", "api_key": "${TEST_KEY}", **anthropic}
    code, output = run(alias)
    assert code == 0, output
    assert "knows it, though not among the 2 models listed" in row(output, "alias")


def test_what_is_not_configured_comes_from_the_environment(
    run: Check, provider: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.url}/openai/v1")
    code, output = run({"name": "by-environment", "backend": "openai", "model": "there"})
    assert code == 0, output
    assert "lists it, of 2 models" in row(output, "by-environment")
    elsewhere = f"{provider.url}/none".replace("://", f"://me:{SECRET}@")
    monkeypatch.setenv("OPENAI_BASE_URL", elsewhere)
    code, output = run({"name": "elsewhere", "backend": "openai", "model": "there"})
    assert f"404: no list of models at {provider.url}/none" in row(output, "elsewhere")


def test_silence_is_bounded(run: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "PATIENCE_S", 0.3)
    with serving(silent) as fake:
        code, output = run({"name": "silent", "backend": "vllm", "hostname": fake.url})
    assert code == 1
    assert "no answer within 0.3 s" in row(output, "silent")


def test_prices_and_places_are_shown(run: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "_gpus", lambda: 0)
    priced = {"cost_per_input_token": 2e-6, "cost_per_output_token": 4e-6}
    folder = str(DEMO_MODELS / "demo-small")
    code, output = run(
        {"name": "listed", "backend": "bedrock", "model": "ai21.jamba-instruct-v1:0"},
        {"name": "own", "backend": "huggingface", "model": folder, **priced},
        {"name": "free", "backend": "huggingface", "model": folder, "cpus": 500},
        {"name": "engine", "backend": "vllm", "gpus": 4, "accelerator_type": "H100"},
    )
    assert code == 1
    assert "LiteLLM's list CPU 0.1: calls bedrock" in row(output, "listed")
    assert "2 / 4, the configuration CPU 0.5: transformers" in row(output, "own")
    assert "none CPU 500: transformers" in row(output, "free")
    assert "none CPU 1, GPU 4: vLLM engine" in row(output, "engine")
    assert "the models need CPU 501.6 together" in output
    assert "the models need GPU 4 together, and this machine has 0" in output


def test_a_paid_request_is_sent_when_it_is_asked_for(run: Check) -> None:
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
    assert "answers" in row(output, "healthy")
    assert "was refused by its provider" in row(output, "no-such")
    assert [attempt.body["max_tokens"] for attempt in provider.attempts] == [1, 1]

"""Promise: the core alone, as `pip install .` brings it, serves every hosted backend."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import openai
import pytest
import yaml
from fake_providers import Answer, serving
from plain_fixtures import FOLDER, PlainInstall
from provider_formats import (
    JSON,
    PLACE,
    TEXT,
    TOLD,
    WEATHER,
    anthropic,
    gemini,
    ollama,
    openai_chat,
)
from serve_fixtures import Server, in_repository
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from deployments.embedding.encoder import DEFAULT_MODEL
from ops.ports import free_port

PRICE = {"cost_per_input_token": 1e-7, "cost_per_output_token": 4e-7}
REFUSED = "refuse this"  # what a fake provider answers with 400, by its own API's error

# A model's name: how it is configured, what answers it, and that API's error.
PROVIDERS: dict[str, tuple[dict[str, str], Answer, dict[str, Any] | str]] = {
    "endpoint": ({"backend": "vllm", "model": "m"}, openai_chat, {"type": "BadRequestError"}),
    "hosted_vllm": ({"backend": "hosted_vllm", "model": "m"}, openai_chat, {}),
    "openai": ({"backend": "openai", "model": "gpt-4o"}, openai_chat, {"code": None}),
    "anthropic": (
        {"backend": "anthropic", "model": "claude-sonnet-4-5"},
        anthropic,
        {"type": "invalid_request_error"},
    ),
    "gemini": (
        {"backend": "google", "model": "gemini-2.5-flash"},
        gemini,
        {"code": 400, "status": "INVALID_ARGUMENT"},
    ),
    "ollama": ({"backend": "ollama", "model": "llama"}, ollama, "no"),
}
MODELS = list(PROVIDERS)
LOCAL = "pip install 'llm-cores-on-ray-serve[local]'"


def refusing(answer: Answer, error: dict[str, Any] | str) -> Answer:
    """Answers as `answer` does, but refuses what says so."""
    body = {"error": error if isinstance(error, str) else {"message": "no", **error}}

    def answering(request: Request, asked: Any) -> Response:
        return JSONResponse(body, 400) if REFUSED in str(asked) else answer(request, asked)

    return answering


@pytest.fixture(scope="module")
def server(plain: PlainInstall) -> Iterator[Server]:
    """`python -m ops.run`, with a model of each backend, smart routing and a store."""
    with ExitStack() as fakes:
        models = []
        for name, (fields, answer, error) in PROVIDERS.items():
            url = fakes.enter_context(serving(refusing(answer, error))).url
            models.append(
                {"name": name, **fields, **PRICE, "hostname": url, "api_key": "${TEST_KEY}"}
            )
        config = plain.home / "llms.yaml"
        llms = {"models": models, "router": {"strategy": "smart"}, "store": {}}
        config.write_text(yaml.safe_dump({"llms": llms}))
        port = free_port()
        command = ("serve", "--config", str(config), "--port", str(port))
        with plain.serving("llm-cores", *command, port=port, TEST_KEY="sk-test") as server:
            yield server


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return server.client()


def ask(client: openai.OpenAI, model: str, content: str = "What is 12 + 30?", **more: Any) -> Any:
    messages = [{"role": "user", "content": content}]
    return client.chat.completions.create(
        **{"model": model, "messages": messages, "max_tokens": 100, **more}
    )


# --- the environment ---

# Prints what is installed beyond the package, pip, and what these require.
BEYOND = """
from importlib.metadata import distribution, distributions
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

required, left = set(), [("llm-cores-on-ray-serve", ""), ("pip", "")]
while left:
    name, extra = left.pop()
    if (name, extra) in required:
        continue
    required.add((name, extra))
    for line in distribution(name).requires or []:
        needed = Requirement(line)
        if needed.marker is None or needed.marker.evaluate({"extra": extra}):
            name_of_it = canonicalize_name(needed.name)
            left += [(name_of_it, extra) for extra in {"", *needed.extras}]
installed = {canonicalize_name(distribution.name) for distribution in distributions()}
print(*sorted(installed - {name for name, _ in required} - {"setuptools"}))
"""


def test_nothing_is_installed_that_the_package_does_not_require(plain: PlainInstall) -> None:
    assert plain.python("-c", BEYOND).stdout.split() == []
    assert "No module named 'pytest'" in plain.python("-c", "import pytest").stderr


def test_the_installed_code_is_what_runs(plain: PlainInstall) -> None:
    code = "import serve, deployments, ops; print(serve.__file__, deployments.__file__)"
    for file in plain.python("-c", code).stdout.split():
        assert Path(file).is_relative_to(FOLDER)


def test_the_core_has_no_library_of_local_models(plain: PlainInstall) -> None:
    for library in ("torch", "transformers", "accelerate", "llguidance"):
        assert f"No module named '{library}'" in plain.python("-c", f"import {library}").stderr


# What a replica does first.
LOADING = """
from deployments.registry import load, parse
load(parse({"name": "qwen", "backend": "huggingface"}))
"""


@pytest.mark.parametrize(
    "command",
    [
        ("python", "-m", "ops.run"),
        ("llm-cores", "check", str(in_repository("ops/demo/llms.yaml"))),
        ("python", "-c", LOADING),
    ],
    ids=["the demo", "a check", "a replica"],
)
def test_a_local_model_names_the_extra_that_it_needs(
    plain: PlainInstall, command: tuple[str, ...]
) -> None:
    said = plain.run(*command)
    assert said.returncode == 1
    assert LOCAL in said.stdout + said.stderr


def test_no_provider_lacks_a_library(plain: PlainInstall) -> None:
    asked = plain.python(str(in_repository("tests/support/every_provider.py")))
    assert asked.stdout.splitlines() == ["all asked"], asked.stderr


# --- the contract, over HTTP ---


@pytest.mark.parametrize("model", MODELS)
def test_an_answer_is_the_same_whole_and_streamed(client: openai.OpenAI, model: str) -> None:
    whole = ask(client, model, temperature=0)
    assert whole.model == model
    events = list(
        ask(client, model, temperature=0, stream=True, stream_options={"include_usage": True})
    )
    text = "".join(event.choices[0].delta.content or "" for event in events if event.choices)
    assert text == whole.choices[0].message.content
    assert text.strip() == TEXT
    reasons = [event.choices[0].finish_reason for event in events if event.choices]
    assert [reason for reason in reasons if reason] == [whole.choices[0].finish_reason] == ["stop"]
    usages = [event.usage for event in events if event.usage]
    assert usages == [whole.usage]
    assert min(whole.usage.prompt_tokens, whole.usage.completion_tokens) > 0


@pytest.mark.parametrize("model", MODELS)
def test_the_limit_of_tokens_ends_an_answer(client: openai.OpenAI, model: str) -> None:
    answer = ask(client, model, max_tokens=1)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 1


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("model", MODELS)
def test_a_tool_is_called_by_its_name_and_its_result_answered(
    client: openai.OpenAI, model: str, stream: bool
) -> None:
    # Ollama can't be told to call one; its fake calls one when it is asked to.
    choice = "auto" if model == "ollama" else "required"
    asked: dict[str, Any] = {"tools": [WEATHER], "tool_choice": choice, "max_tokens": 400}
    question: Any = {"role": "user", "content": "call it"}
    if stream:
        with client.chat.completions.stream(model=model, messages=[question], **asked) as events:
            answer: Any = events.get_final_completion()
    else:
        answer = ask(client, model, "call it", **asked)
    message = answer.choices[0].message
    call = message.tool_calls[0]
    assert call.function.name == "weather/now"
    jsonschema.validate(json.loads(call.function.arguments), PLACE)
    history = [
        question,
        message.to_dict(),
        *(
            {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
            for call in message.tool_calls
        ),
    ]
    told = ask(client, model, messages=history, tools=[WEATHER]).choices[0]
    assert told.finish_reason == "stop"
    assert told.message.content.strip() == TOLD


@pytest.mark.parametrize("model", MODELS)
def test_an_answer_keeps_to_a_json_schema(client: openai.OpenAI, model: str) -> None:
    answer = ask(client, model, response_format=JSON, max_tokens=400)
    jsonschema.validate(json.loads(answer.choices[0].message.content), PLACE)


@pytest.mark.parametrize("model", MODELS)
def test_a_request_that_is_refused_is_the_callers(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        ask(client, model, REFUSED)
    assert error.value.type == "invalid_request_error"
    assert ask(client, model, max_tokens=5).choices  # and its model goes on


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        ask(client, "none")
    assert {model.id for model in client.models.list()} == {"auto", *MODELS, DEFAULT_MODEL}


# --- the store and its commands ---


def post(server: Server, path: str, body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json=body, timeout=60)


def test_answers_and_their_scores_are_learned_and_histories_taken_in(
    server: Server, client: openai.OpenAI, plain: PlainInstall
) -> None:
    # Nothing is learned before the embedder is there.
    deadline = time.monotonic() + 120
    while True:
        answer = ask(client, "endpoint", "Who wrote Hamlet?")
        scored = post(server, "/v1/feedback", {"id": answer.id, "score": 1.0})
        if scored.status_code == 200:
            break
        assert time.monotonic() < deadline, scored.text
        time.sleep(0.5)
    outputs = [{"model_name": "openai", "correctness": 1, "output_token_length": 5}]
    history = {"query": "What is 2 + 2?", "input_token_length": 6, "outputs": outputs}
    (plain.home / "history.jsonl").write_text(json.dumps(history))
    imported = plain.python("-m", "ops.store", "import", "history.jsonl")
    assert "1 rows, 1 observations" in imported.stdout, imported.stderr
    stats = json.loads(plain.python("-m", "ops.store", "stats", "--json").stdout)
    assert stats["models"]["openai"]["scored"] == 1
    assert stats["models"]["endpoint"]["scored"] == 1
    for suffix in ("json", "parquet"):
        exported = plain.python("-m", "ops.store", "export", f"all.{suffix}")
        assert f"{stats['queries']} rows" in exported.stdout, exported.stderr


def test_a_model_is_chosen_by_predictions(server: Server) -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": "What is 3 + 4?"}]}
    answered = post(server, "/v1/chat/completions", body)
    assert answered.status_code == 200
    assert answered.headers["x-router-strategy"] == "smart"
    assert answered.headers["x-router-model"] in MODELS
    metrics = httpx.get(f"{server.url}/metrics").text
    assert "llm_choices" in metrics


def test_a_batch_is_decided(server: Server) -> None:
    queries = ["What is 2 + 2?", "Who wrote Hamlet?"]
    decided = post(server, "/v1/route", {"queries": queries, "models": MODELS})
    assert decided.status_code == 200
    assert len(decided.json()["data"]) == 2
    assert {decision["model"] for decision in decided.json()["data"]} <= set(MODELS)


def test_a_key_is_made(plain: PlainInstall) -> None:
    assert "sha256: " in plain.python("-m", "ops.keys", "team-a").stdout


def test_a_store_in_postgresql_says_what_it_needs(plain: PlainInstall) -> None:
    stats = plain.python("-m", "ops.store", "stats", "--store", "postgresql://127.0.0.1:9/none")
    assert "pip install 'llm-cores-on-ray-serve[postgresql]'" in stats.stderr


# --- Ray Serve's own command ---


def test_serve_run_serves_a_serve_config(plain: PlainInstall) -> None:
    """`serve run` of a file like ops/demo.yaml, on a free port."""
    port = free_port()
    with serving(openai_chat) as fake:
        config = yaml.safe_load(in_repository("ops/demo.yaml").read_text())
        config["http_options"]["port"] = port
        (application,) = config["applications"]
        model = {"name": "endpoint", "backend": "vllm", "model": "m", "hostname": fake.url}
        application["args"] = {"llms": {"models": [model]}}
        file = plain.home / "serve.yaml"
        file.write_text(yaml.safe_dump(config))
        # In a Ray of its own, not in the other tests'.
        with plain.serving("serve", "run", str(file), port=port, RAY_ADDRESS="local") as server:
            answer = ask(server.client(), "endpoint")
            assert answer.choices[0].message.content.strip() == TEXT


def test_the_embedded_default_is_an_application_of_its_own(plain: PlainInstall) -> None:
    """`serve run serve.app:app`."""
    code = "from serve.app import app; print(type(app).__name__)"
    assert plain.python("-c", code).stdout == "Application\n"

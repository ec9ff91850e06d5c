"""Promise: /openapi.json is valid and complete. (tests/fuzz holds the running server to it.)"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from deployments import errors
from deployments.errors import LLMError
from serve.http.aios import requests as aios
from serve.http.api import create_api
from serve.http.batches import Batch
from serve.http.bodies.fields import parse_as
from serve.http.chat.requests import parse
from serve.http.completions.requests import parse as parse_completion
from serve.http.embeddings.requests import parse as parse_embedding
from serve.http.messages.requests import parse as parse_message
from serve.http.messages.requests import parse_prompt
from serve.http.responses.requests import parse as parse_response
from serve.http.schemas import Feedback

DOCUMENT = create_api().openapi()
OPERATIONS: list[dict[str, Any]] = [
    operation for path in DOCUMENT["paths"].values() for operation in path.values()
]
READ: dict[str, Callable[[bytes], object]] = {
    "/v1/chat/completions": parse,
    "/query": aios.parse,
    "/user/select/llms": aios.parse_selection,
    "/core/llm/setup": lambda body: parse_as(aios.SetupBody, body),
    "/v1/completions": parse_completion,
    "/v1/responses": parse_response,
    "/v1/messages": parse_message,
    "/v1/messages/count_tokens": parse_prompt,
    "/v1/embeddings": parse_embedding,
    "/v1/route": lambda body: parse_as(Batch, body),
    "/v1/feedback": lambda body: parse_as(Feedback, body),
}


def test_it_is_valid() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")
    faults = OpenAPIV31SpecValidator(DOCUMENT).iter_errors()
    assert [f"{fault.json_path}: {fault.message}" for fault in faults] == []


def test_all_but_health_declares_that_it_takes_a_key() -> None:
    assert DOCUMENT["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    asks = {
        path: operation.get("security")
        for path, operations in DOCUMENT["paths"].items()
        for operation in operations.values()
    }
    assert asks == {path: None if path.startswith("/health") else [{"bearer": []}] for path in asks}


@pytest.mark.parametrize("path", READ)
def test_its_examples_are_valid_requests(path: str) -> None:
    content = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    assert content["examples"]
    for example in content["examples"].values():
        READ[path](json.dumps(example["value"]).encode())


def test_every_error_is_documented_with_its_status_and_code() -> None:
    told = {
        (int(status), line.split("`")[1])
        for operation in OPERATIONS
        for status, response in operation["responses"].items()
        for line in response["description"].splitlines()
        if line.startswith("- `")
    }
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert told == {
        (kind.status, kind.code)
        for kind in kinds
        if issubclass(kind, LLMError) and kind is not LLMError
    }


def test_every_reference_resolves() -> None:
    def references(part: Any) -> Iterator[str]:
        if isinstance(part, dict):
            if isinstance(reference := part.get("$ref"), str):
                yield reference
            part = list(part.values())
        if isinstance(part, list):
            for inner in part:
                yield from references(inner)

    schemas = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert set(references(DOCUMENT)) <= schemas

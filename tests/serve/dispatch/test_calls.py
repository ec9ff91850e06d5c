"""Promise: a request goes to its model over gRPC, unless it or its answer might not fit."""

from typing import Any

import pytest
from scripted_models import Models, says

from deployments.contract import ChatRequest
from serve.dispatch.calls import Calls
from serve.ray_internals import GRPC_MOST_BYTES


class Handle:
    """A deployment's handle that notes how it is called."""

    def __init__(self, called: list[bool], **options: Any) -> None:
        self._called = called
        self._options = options

    def options(self, **options: Any) -> "Handle":
        return Handle(self._called, **options)

    def remote(self, request: ChatRequest) -> Any:
        self._called.append(not self._options["_by_reference"])
        return says("one")


@pytest.mark.parametrize(
    ("characters", "fields", "over_grpc"),
    [
        (10, {}, True),
        (10, {"logprobs": True, "stream": True}, True),
        (10, {"logprobs": True}, False),
        (GRPC_MOST_BYTES // 2, {}, True),
        (GRPC_MOST_BYTES, {}, False),
    ],
)
def test_what_fits_goes_over_grpc(
    characters: int, fields: dict[str, Any], over_grpc: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.dispatch.calls.DeploymentResponseGenerator", object)
    called: list[bool] = []
    models = Models(m=[says("one")])
    handles: Any = {"m": Handle(called)}
    calls = Calls(models.configs, handles, models.availability, models.circuits)
    request = ChatRequest.model_validate(
        {"model": "m", "messages": [{"role": "user", "content": "x" * characters}], **fields}
    )
    calls.call("m", request, 0, another_is_left=False)
    assert called == [over_grpc]

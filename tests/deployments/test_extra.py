"""Promise: what only a provider and a front end understand passes through everything between."""

import pickle

import pytest
from pydantic import ValidationError

from deployments.contract import ChatRequest, Chunk, merge

REQUEST = ChatRequest(model="m", messages=[{"role": "user", "content": "?"}])


def test_merging_keeps_all_of_it_in_order() -> None:
    pieces = [
        Chunk(reasoning="Hm.", extra=(("raw", b"1"),)),
        Chunk(text="one"),
        Chunk(extra=(("raw", b"2"), ("signature", "s"))),
    ]
    whole = merge(pieces)
    assert whole.extra == (("raw", b"1"), ("raw", b"2"), ("signature", "s"))
    assert merge([merge(pieces[:2]), merge(pieces[2:])]) == whole


def test_a_request_keeps_it_on_its_way_to_a_replica() -> None:
    request = REQUEST.with_extra(raw=b"1").with_extra(blocks=[{"signature": "s"}])
    copied = request.model_copy(update={"model": "other"}).within(frozenset())
    arrived = pickle.loads(pickle.dumps(copied))
    assert arrived.extra == {"raw": b"1", "blocks": [{"signature": "s"}]}
    assert REQUEST.extra == {}
    assert "extra" not in arrived.parameters()


@pytest.mark.parametrize("field", ["extra", "_extra"])
def test_no_caller_can_set_it(field: str) -> None:
    with pytest.raises(ValidationError, match="extra_forbidden"):
        ChatRequest.model_validate({**REQUEST.model_dump(exclude_none=True), field: {"raw": 1}})

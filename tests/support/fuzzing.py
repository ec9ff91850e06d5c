"""Malformed and hostile values, and how they must be handled; for tests/fuzz."""

import copy
import json
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from pydantic_core import to_json

from deployments.errors import LLMError
from serve.http.failures import error_json

# Examples take longer where other tests run at the same time.
unhurried = settings(deadline=None)

characters = st.characters(exclude_categories=())  # lone surrogates, too
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(characters, max_size=6)
    | st.sampled_from(["m", "auto", "stop", "tool_calls", "smart", "{", "./x", "${A}", 10**400])
)
garbage = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(characters, max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container within a value, with each key or index of it."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


@st.composite
def spoilt(draw: st.DrawFn, sound: Any, wrong: st.SearchStrategy[Any] = garbage) -> Any:
    """A sound value with a few places of it gone, doubled or wrong."""
    value = [copy.deepcopy(sound)]
    for _ in range(draw(st.integers(0, 3))):
        inside, key = draw(st.sampled_from(list(places(value))))
        change = draw(st.sampled_from(["wrong", "wrong", "gone", "more"]))
        if change == "wrong":
            inside[key] = draw(wrong)
        elif change == "more" and isinstance(inside, dict):
            inside[draw(st.text(max_size=3))] = draw(wrong)
        elif change == "more":
            inside.append(copy.deepcopy(inside[key]))
        elif inside is not value:
            del inside[key]
    return value[0]


CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def as_body(value: Any) -> bytes:
    """JSON as Python writes it, which is not always JSON: NaN, Infinity, half a surrogate pair."""
    return json.dumps(value).encode()


def check_refusal(error: LLMError, statuses: Sequence[int]) -> None:
    """It can be sent, and its status is one of these."""
    assert error.status in statuses, repr(error)
    to_json(error_json(error))

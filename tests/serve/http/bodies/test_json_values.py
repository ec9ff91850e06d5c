"""Promise: too many values in a JSON text are noticed before it is decoded."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.http.bodies import json_values
from serve.http.bodies.json_values import holds_more_values

# Strings that look like structure, and escapes that would end a string if they were misread.
strings = st.text(st.sampled_from([*'",[{\\}]:\n', "é", "a"]), max_size=8)
values = st.recursive(
    st.integers() | strings,
    lambda inner: st.lists(inner, min_size=1) | st.dictionaries(strings, inner, min_size=1),
)


def count(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 1
    return 1 + sum(map(count, value.values() if isinstance(value, dict) else value))


@pytest.mark.parametrize("window", [1, 2, 7, 2**16])
def test_it_counts_as_the_decoder_does(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_values, "_WINDOW", window)

    # A busy machine must not fail it.
    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(values, st.booleans())
    def check(value: Any, ascii: bool) -> None:
        body = json.dumps(value, ensure_ascii=ascii).encode()
        assert holds_more_values(body, count(value) - 1)
        assert not holds_more_values(body, count(value))

    check()


@pytest.mark.parametrize("text", [b"", b'"', b"\\", b'"\\', b'["a', b'{"a":"\\"', b"\xff"])
def test_invalid_json_does_no_harm(text: bytes) -> None:
    assert not holds_more_values(text, 10)


@pytest.mark.parametrize("text", [b"[" * 2**20, b'""' * 2**20, b"{}," * 2**20, b"," * 2**20])
def test_broken_json_with_too_many_values_is_detected(text: bytes) -> None:
    assert holds_more_values(text, 1000)

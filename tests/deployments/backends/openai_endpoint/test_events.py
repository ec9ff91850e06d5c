"""Promise: server-sent events are read as the specification says, however they are split."""

import pytest
from fuzzing import unhurried
from hypothesis import given
from hypothesis import strategies as st

from deployments.backends.openai_endpoint.events import EventReader


def read(stream: bytes, size: int) -> list[bytes]:
    """The data of all events, read in pieces of `size` bytes."""
    reader = EventReader()
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    return [data for piece in pieces for data in reader.feed(piece)]


@pytest.mark.parametrize(
    ("stream", "data"),
    [
        (b"data: one\n\ndata: two\n\n", [b"one", b"two"]),
        (b"data: one\r\n\r\ndata: two\r\n\r\n", [b"one", b"two"]),
        (b"data: one\r\rdata: two\r\r", [b"one", b"two"]),
        (b"data: one\r\n\ndata: two\n\r\n\r", [b"one", b"two"]),
        (b"\xef\xbb\xbfdata: one\n\n", [b"one"]),
        (b"data: one\n\n\xef\xbb\xbfdata: two\n\n", [b"one"]),  # a mark is one at the start only
        (b": ping\n\ndata: one\n\n", [b"one"]),
        (b": ping\ndata: one\n\n", [b"one"]),
        (b"event: error\nid: 7\ndata: one\nretry: 5\n\n", [b"one"]),
        (b"event: ping\n\n", []),
        (b"data: one\ndata: two\n\n", [b"one\ntwo"]),
        (b"data:one\n\n", [b"one"]),
        (b"data:  one \n\n", [b" one "]),
        (b"data: a: b\n\n", [b"a: b"]),
        (b"data\n\n", [b""]),
        (b"data: \n\n", [b""]),
        (b"\n\n\n\ndata: one\n\n\n\ndata: two\n\n\n", [b"one", b"two"]),
        (b"database: one\n\n", []),
        (b"<html>Welcome", []),
        (b"data: one\n\ndata: broken off\n", [b"one"]),
        ("data: 😀\u2028\x85\n\n".encode(), ["😀\u2028\x85".encode()]),  # no ends of lines
    ],
)
def test_events_are_read(stream: bytes, data: list[bytes]) -> None:
    for size in range(1, len(stream) + 1):
        assert read(stream, size) == data


@unhurried
@given(
    st.lists(st.sampled_from([b"data: x", b"data", b":", b"\n", b"\r", b"\xef\xbb\xbf"])).map(
        b"".join
    ),
    st.integers(1, 9),
)
def test_how_a_stream_is_split_makes_no_difference(stream: bytes, size: int) -> None:
    # A lone \r at the end may be the half of an end of line, so that whole lines are compared.
    assert read(stream + b"\n", size) == read(stream + b"\n", len(stream) + 1)

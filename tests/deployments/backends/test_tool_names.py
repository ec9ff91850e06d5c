"""Promise: providers get tool names that they allow, and callers get back their own."""

import re

from hypothesis import given
from hypothesis import strategies as st

from deployments.backends.tool_names import ToolNames
from deployments.contract import ChatRequest

ALLOWED = re.compile(r"[a-zA-Z0-9_-]{1,64}")

# Names that are alike once they are made safe.
near = st.text(alphabet="a_/-.é ", min_size=1, max_size=6)
names = st.lists(near | st.text(max_size=256), max_size=20)


@given(names)
def test_every_name_is_allowed_and_comes_back(names: list[str]) -> None:
    mapping = ToolNames(names)
    sent = {name: mapping.sent(name) for name in names}
    assert all(ALLOWED.fullmatch(safe) for safe in sent.values())
    assert len(set(sent.values())) == len(sent)
    assert all(mapping.original(safe) == name for name, safe in sent.items())


@given(names)
def test_a_name_that_is_allowed_stays_as_it_is(names: list[str]) -> None:
    mapping = ToolNames(names)
    assert all(mapping.sent(name) == name for name in names if ALLOWED.fullmatch(name))


@given(names)
def test_the_order_of_names_that_do_not_collide_changes_nothing(names: list[str]) -> None:
    assert all(ToolNames([name]).original(ToolNames([name]).sent(name)) == name for name in names)


def test_a_slash_becomes_two_underscores() -> None:
    assert ToolNames(["weather/now"]).sent("weather/now") == "weather__now"


def test_names_that_would_collide_stay_apart() -> None:
    mapping = ToolNames(["a/b", "a__b", "a//b", "a/_b"])
    assert mapping.sent("a__b") == "a__b"
    assert len({mapping.sent(name) for name in ("a/b", "a__b", "a//b", "a/_b")}) == 4


def test_an_unknown_name_from_the_model_is_kept() -> None:
    assert ToolNames(["a/b"]).original("nonsense") == "nonsense"


def test_tools_choice_and_history_are_renamed_consistently() -> None:
    request = ChatRequest.model_validate(
        {
            "model": "m",
            "messages": [
                {"role": "user", "content": "hi"},
                {
                    "role": "assistant",
                    "tool_calls": [
                        {
                            "id": "1",
                            "type": "function",
                            "function": {"name": name, "arguments": "{}"},
                        }
                        for name in ("a/b", "no longer/offered")
                    ],
                },
                {"role": "tool", "tool_call_id": "1", "content": "done"},
            ],
            "tools": [
                {"type": "function", "function": {"name": "a/b", "description": None}},
                {"type": "function", "function": {"name": "a__b"}},
            ],
            "tool_choice": {"type": "function", "function": {"name": "a/b"}},
        }
    )
    mapping = ToolNames.of(request)
    sent = mapping.sent("a/b")
    assert sent not in ("a/b", "a__b")
    assert mapping.tools(request) == [
        {"type": "function", "function": {"name": sent}},
        {"type": "function", "function": {"name": "a__b"}},
    ]
    assert mapping.tool_choice(request) == {"type": "function", "function": {"name": sent}}
    called = [call["function"]["name"] for call in mapping.messages(request)[1]["tool_calls"]]
    assert called == [sent, "no_longer__offered"]
    assert request.model_dump()["messages"][1]["tool_calls"][0]["function"]["name"] == "a/b"

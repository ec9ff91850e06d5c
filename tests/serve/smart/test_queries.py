"""Promise: the configuration decides which part of a conversation is embedded."""

import pytest

from deployments.contract import ChatRequest
from serve.smart.queries import prompt_characters, query_of

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aaaa"}}


def request(*messages: tuple[str, object], **more: object) -> ChatRequest:
    return ChatRequest.model_validate(
        {
            "model": "auto",
            "messages": [{"role": role, "content": content} for role, content in messages],
            **more,
        }
    )


TALK = request(
    ("system", "Be brief."),
    ("user", "What is a tree?"),
    ("assistant", "A plant."),
    ("user", [{"type": "text", "text": " And a bush? "}, IMAGE]),
)


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        ("last_user_message", "And a bush?"),
        ("user_messages", "What is a tree?\nAnd a bush?"),
        ("conversation", "Be brief.\nWhat is a tree?\nA plant.\nAnd a bush?"),
    ],
)
def test_each_choice_takes_its_messages(choice: str, text: str) -> None:
    assert query_of(TALK, choice) == text  # type: ignore[arg-type]


def test_a_long_conversation_is_represented_by_its_end() -> None:
    talk = request(*[("user", f"{number} {'x' * 500}") for number in range(9)], ("user", "Well?"))
    query = query_of(talk, "conversation")
    assert query.endswith("\nWell?")
    assert len(query) <= 1000


@pytest.mark.parametrize("choice", ["last_user_message", "user_messages", "conversation"])
def test_images_alone_have_no_text(choice: str) -> None:
    assert query_of(request(("user", [IMAGE])), choice) == ""  # type: ignore[arg-type]


def test_a_conversation_without_a_user_has_no_last_user_message() -> None:
    assert query_of(request(("system", "Speak.")), "last_user_message") == ""


def test_the_prompt_is_all_messages_and_tools() -> None:
    tool = {"type": "function", "function": {"name": "look", "description": "d" * 100}}
    assert prompt_characters(TALK) == 9 + 15 + 8 + 11
    assert prompt_characters(request(("user", "Hi"), tools=[tool])) > 100

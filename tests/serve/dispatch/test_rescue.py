"""Promise: what resumes an answer continues its text, or is separated from it."""

from collections.abc import AsyncGenerator

import pytest

from deployments.contract import ChatRequest, Chunk, ToolCallDelta, Usage, merge
from serve.dispatch.rescue import Sent, continuing, restarted, total_usage

REQUEST = ChatRequest(model="m", messages=[{"role": "user", "content": "Count."}], max_tokens=9)
JSON = REQUEST.model_copy(update={"response_format": {"type": "json_object"}})
END = Chunk(finish_reason="stop", usage=Usage(1, 2))


def sent(*chunks: Chunk) -> Sent:
    sent = Sent()
    for chunk in chunks:
        sent.add(chunk)
    return sent


async def written(*chunks: Chunk) -> AsyncGenerator[Chunk, None]:
    for chunk in chunks:
        yield chunk


async def after(before: str, *chunks: Chunk) -> Chunk:
    rescue = sent(Chunk(text=before)).rescue("a", "x", "restarted")
    return merge([chunk async for chunk in restarted(written(*chunks), before, rescue)])


def test_what_was_sent_becomes_the_beginning_of_the_answer() -> None:
    request = continuing(REQUEST, sent(Chunk(text="one "), Chunk(text="two")))
    assert request.messages[-1] == {"role": "assistant", "content": "one two"}
    assert request.messages[:-1] == REQUEST.messages
    assert request.continue_final_message
    # It is still a valid request.
    ChatRequest.model_validate(request.model_dump(exclude_none=True))


def test_the_callers_own_beginning_and_what_was_sent_become_one() -> None:
    begun = {"role": "assistant", "content": "one "}
    own = REQUEST.model_copy(
        update={"messages": [*REQUEST.messages, begun], "continue_final_message": True}
    )
    request = continuing(own, sent(Chunk(text="two")))
    assert [message["content"] for message in request.messages] == ["Count.", "one two"]


async def test_tool_calls_of_a_restarted_answer_pass_unchanged() -> None:
    call = Chunk(tool_calls=(ToolCallDelta(0, "id", "f", "{}"),))
    chunks = [Chunk(reasoning="hm"), call, END]
    rescue = sent(Chunk(text="Well, ")).rescue("a", "x", "restarted")
    assert [chunk async for chunk in restarted(written(*chunks), "Well, ", rescue)] == chunks


CALL = ToolCallDelta(0, "id", "f", "{}")


@pytest.mark.parametrize(
    ("chunks", "said"),
    [
        ([Chunk(text="I look."), Chunk(tool_calls=(CALL,))], "\n\nI look."),
        ([Chunk(text="I look.", tool_calls=(CALL,))], "\n\nI look."),
        ([Chunk(tool_calls=(CALL,)), Chunk(text="I "), Chunk(text="look.")], "\n\nI look."),
        ([Chunk(text="We"), Chunk(tool_calls=(CALL,)), Chunk(text="ak.")], "\n\nWeak."),
        ([Chunk(text="We"), Chunk(text="ll, yes.", tool_calls=(CALL,))], "yes."),
        ([Chunk(text="We"), Chunk(tool_calls=(CALL,))], ""),
    ],
    ids=["before", "with", "after", "around", "repeated, and more", "repeated in part"],
)
async def test_the_text_beside_tool_calls_of_a_restarted_answer_is_not_lost(
    chunks: list[Chunk], said: str
) -> None:
    whole = await after("Well, ", *chunks, END)
    assert (whole.text, whole.tool_calls) == (said, (CALL,))


@pytest.mark.parametrize(
    ("parts", "request_", "can"),
    [
        ([Chunk(text="one")], REQUEST, True),
        ([Chunk(reasoning="well")], REQUEST, True),
        ([Chunk(text="one"), Chunk(tool_calls=(ToolCallDelta(0, "i", "f"),))], REQUEST, False),
        ([Chunk(text="one"), END], REQUEST, False),
        ([Chunk(text="{")], JSON, False),
        ([Chunk(reasoning="well")], JSON, True),
        ([], JSON, True),
    ],
    ids=["text", "reasoning", "calls", "ended", "JSON", "before JSON", "nothing"],
)
def test_only_text_and_reasoning_can_be_resumed(
    parts: list[Chunk], request_: ChatRequest, can: bool
) -> None:
    assert sent(*parts).can_be_resumed(request_) is can


@pytest.mark.parametrize("before", ["", "o", "one ", "one two", "one two three"])
async def test_text_that_was_sent_already_is_not_sent_again(before: str) -> None:
    whole = await after(before, Chunk(text="on"), Chunk(text="e two"), Chunk(text=" three"), END)
    assert before + whole.text == "one two three"
    assert (whole.finish_reason, whole.usage) == (END.finish_reason, END.usage)


@pytest.mark.parametrize("before", ["other", "one tww", "one two three four"])
async def test_a_different_answer_is_sent_whole_after_a_blank_line(before: str) -> None:
    whole = await after(before, Chunk(text="one"), Chunk(text=" two three"), END)
    assert whole.text == "\n\none two three"
    assert (whole.finish_reason, whole.usage) == (END.finish_reason, END.usage)


def test_the_usage_of_a_continued_answer_counts_the_prompt_once_and_all_that_was_sent() -> None:
    rescue = sent(Chunk(text="word " * 40), Chunk(reasoning="Hm! ")).rescue("a", "x", "continued")
    in_all = total_usage(Usage(100, 20, cached_tokens=90, reasoning_tokens=2), [rescue])
    assert in_all == Usage(50, 71, cached_tokens=50, reasoning_tokens=3)
    # Only how the sum is divided is estimated, and never more than there is.
    assert total_usage(
        Usage(11, 20), [sent(Chunk(text="x" * 99)).rescue("a", "x", "continued")]
    ) == (Usage(1, 30))


def test_the_usage_of_a_restarted_answer_adds_what_was_sent_before() -> None:
    first = sent(Chunk(text="word " * 4)).rescue("a", "x", "continued")
    second = sent(Chunk(text="word " * 40)).rescue("b", "x", "restarted")
    assert total_usage(Usage(100, 20), [first, second]) == Usage(100, 70)


@pytest.mark.parametrize(("before", "tokens"), [("The answer is ", 6), ("I say ", 8)])
async def test_the_usage_of_a_restarted_answer_counts_repeated_text_once(
    before: str, tokens: int
) -> None:
    rescue = sent(Chunk(text=before)).rescue("a", "x", "restarted")
    answer = restarted(written(Chunk(text="The answer is forty-two."), END), before, rescue)
    async for _ in answer:
        pass
    assert total_usage(Usage(10, 6), [rescue]) == Usage(10, tokens)


def test_the_usage_of_a_single_model_is_unchanged() -> None:
    assert total_usage(Usage(100, 20), []) == Usage(100, 20)
    assert total_usage(None, [sent().rescue("a", "x", "restarted")]) is None

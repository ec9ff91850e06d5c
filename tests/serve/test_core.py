"""Promise: the core answers any front end, whole and streamed, and says what is known of it."""

import time
from collections.abc import AsyncGenerator

import pytest
from scripted_models import END, REQUEST, STREAMED, Models, continues, says

from deployments.contract import ChatRequest, Chunk
from deployments.errors import DeadlineExceeded, LLMError, ProviderError
from deployments.messages import UserMessage
from serve.access.keys import ANYONE, Caller
from serve.config import RouterConfig, ScoringConfig
from serve.core import Core
from serve.dispatch.dispatcher import Dispatch
from serve.http.chat.replies import completion
from serve.request import Request, RouterOptions, RoutingWishes
from serve.routing.prices import Price
from serve.routing.strategy import Question, Ranking
from serve.smart.learning import Lesson
from serve.strategies import Kind


async def lines(core: Core, line: str, caller: Caller = ANYONE) -> AsyncGenerator[str, None]:
    """A second front end. A request is a line: `MODEL QUESTION`, or `MODEL! QUESTION` to stream.
    The reply is the text in lines, then `. MODEL ATTEMPTS COST`, or `! CODE` for an error."""
    model, _, question = line.partition(" ")
    message = UserMessage(role="user", content=question)
    chat = ChatRequest(model=model.removesuffix("!"), messages=[message], stream=model[-1] == "!")
    try:
        answer = await core.answer(Request(chat), caller, time.monotonic() + 10)
        if chat.stream:
            async for chunk in answer:
                yield chunk.text
        else:
            yield (await answer.whole()).text
        yield f". {answer.model} {answer.attempts} {answer.cost}"
    except LLMError as error:
        yield f"! {error.code}"


async def said(core: Core, line: str, caller: Caller = ANYONE) -> list[str]:
    return [line async for line in lines(core, line, caller)]


async def test_another_front_end_is_answered_whole_and_streamed() -> None:
    models = Models(small=[says("one ", "two", END)])
    core = await models.core(prices={"small": Price(1, 10)})
    assert await said(core, "small Count.") == ["one two", ". small 1 35"]
    assert await said(core, "auto! Count.") == ["one ", "two", "", ". small 1 35"]


async def test_it_gets_errors_before_and_within_an_answer() -> None:
    models = Models({"retries": 0}, a=[says("one ", ProviderError("cut"))])
    core = await models.core()
    assert await said(core, "b Count.") == ["! model_not_found"]
    assert await said(core, "a Count.") == ["! provider_error"]
    assert await said(core, "a! Count.") == ["one ", "! provider_error"]


async def test_only_the_callers_models_answer() -> None:
    models = Models(a=[says("one", END)], b=[says("two", END)])
    core = await models.core()
    caller = Caller("someone", models=frozenset({"b"}))
    assert await said(core, "a Count.", caller) == ["! model_not_found"]
    assert await said(core, "auto Count.", caller) == ["two", ". b 1 None"]


async def test_what_is_known_of_an_answer_follows_a_rescue() -> None:
    models = Models(a=[says("one ", ProviderError("cut"))], b=[continues("one two")])
    core = await models.core(prices={"a": Price(1, 1), "b": Price(2, 2)})
    answer = await core.answer(Request(STREAMED), ANYONE, time.monotonic() + 10)
    assert (answer.model, answer.strategy, answer.attempts) == ("a", "sequential", 1)
    assert (await answer.whole()).text == "one two"
    assert (answer.model, answer.attempts) == ("b", 2)
    assert [rescue.model for rescue in answer.rescues] == ["a"]
    assert answer.cost == 16
    assert answer.total_usage is not None


async def test_rejected_settings_change_nothing() -> None:
    models = Models(a=[says("one", END)])
    core = await models.core(prices={"a": Price(1, 1)})
    with pytest.raises(ValueError, match=r"user_config\.router\.strategy: smart routing needs"):
        await core.configure(RouterConfig(strategy="smart"), {})
    for scoring, fault in ((ScoringConfig(judge="b"), "judge 'b'"), (ScoringConfig(), "a store")):
        with pytest.raises(ValueError, match=fault):
            await core.configure(RouterConfig(scoring=scoring), {})
    assert await said(core, "a Count.") == ["one", ". a 1 8"]


async def test_opaque_fields_pass_from_the_front_end_to_the_model_and_back() -> None:
    piece = Chunk(reasoning="Hm.", extra=(("signature", "s"),))
    models = Models(a=[says(piece, "one", Chunk(extra=(("raw", b"1"),)), END)])
    core = await models.core()
    for chat in (REQUEST, STREAMED):
        request = Request(chat.with_extra(blocks=[{"signature": "r"}]))
        answer = await core.answer(request, ANYONE, time.monotonic() + 10)
        whole = await answer.whole()
        assert models.asked[-1][1].extra == {"blocks": [{"signature": "r"}]}
        assert whole.extra == (("signature", "s"), ("raw", b"1"))
        assert "signature" not in str(completion(whole, id=answer.id, model=answer.model))


class AsksBoth:
    """A strategy that asks every model, and ranks longer answers first."""

    async def rank(self, question: Question) -> Ranking:
        assert question.chat is not None
        assert question.probe is not None
        said = {n: (await question.probe(n, question.chat)).text for n in question.available}
        return Ranking(sorted(said, key=lambda name: -len(said[name])), "it says more")


async def test_a_strategy_may_ask_models_before_it_ranks_them() -> None:
    models = Models(a=[says("one", END)], b=[says("one two", END)])
    core = await models.core(AsksBoth(), prices={"a": Price(1, 0), "b": Price(10, 0)})
    assert await said(core, "auto! Count.") == ["one two", "", ". b 3 105"]
    assert models.order == "abb"
    assert [request.stream for _, request in models.asked] == [False, False, True]


class Predicts:
    """A strategy that predicts the quality of a model, and guesses that of another."""

    async def rank(self, question: Question) -> Ranking:
        quality = {"known": 0.9, "new": 0.6}
        return Ranking(list(question.available), "", quality, policy="policy", guessed=["new"])


class Learning:
    """In place of smart routing: takes the lessons."""

    def __init__(self) -> None:
        self.learner = self
        self.lessons: list[Lesson] = []

    def follow(self, answer: Dispatch, lesson: Lesson, request: ChatRequest) -> Dispatch:
        self.lessons.append(lesson)
        return answer


async def test_a_guess_is_not_learned_from_as_a_prediction() -> None:
    models = Models(known=[says("one", END)], new=[says("two", END)])
    core = await models.core(Predicts())
    core._smart = smart = Learning()  # type: ignore[assignment]
    await said(core, "known Count.")
    await said(core, "new Count.")
    assert [lesson.predicted for lesson in smart.lessons] == [0.9, None]


async def test_an_answer_by_failover_is_learned_from_as_no_choice() -> None:
    models = Models({"retries": 0}, known=[says(ProviderError("down"))], new=[says("two", END)])
    core = await models.core(Predicts())
    core._smart = smart = Learning()  # type: ignore[assignment]
    await said(core, "auto Count.")
    await said(core, "new Count.")
    assert [lesson.chosen for lesson in smart.lessons] == [False, True]
    assert [lesson.propensity for lesson in smart.lessons] == [None, 1.0]


async def test_an_answer_is_learned_from_with_the_key_of_its_caller() -> None:
    models = Models(known=[says("one", END)])
    core = await models.core(Predicts())
    core._smart = smart = Learning()  # type: ignore[assignment]
    for caller in (ANYONE, Caller("team")):
        await core.answer(Request(REQUEST), caller, time.monotonic() + 10)
    assert [lesson.key for lesson in smart.lessons] == [None, "team"]


async def test_an_answer_is_learned_from_with_its_shape() -> None:
    models = Models(known=[says("{}", END)])
    core = await models.core(Predicts())
    core._smart = smart = Learning()  # type: ignore[assignment]
    for more in ({}, {"response_format": {"type": "json_object"}}):
        chat = REQUEST.model_copy(update=more)
        await core.answer(Request(chat), ANYONE, time.monotonic() + 10)
    assert [lesson.shape for lesson in smart.lessons] == ["text", "json"]


async def test_a_probe_has_the_requests_deadline_and_opens_circuits() -> None:
    models = Models({"retries": 0, "circuit": {"failures": 1}}, a=[says(ProviderError("down"))])
    core = await models.core(AsksBoth())
    assert await said(core, "a Count.") == ["! provider_error"]
    assert models.circuits.is_open("a")
    slow = Models(a=[says("one", END, pause=60)])
    core = await slow.core(AsksBoth())
    with pytest.raises(DeadlineExceeded, match="the request's time limit"):
        await core.answer(Request(STREAMED), ANYONE, time.monotonic() + 0.1)
    assert slow.responses[0].left


class AsksWithoutEnd:
    async def rank(self, question: Question) -> Ranking:
        assert question.chat is not None
        assert question.probe is not None
        while True:
            await question.probe("a", question.chat)


async def test_the_number_of_probes_is_bounded() -> None:
    models = Models(a=[says("one", END)])
    core = await models.core(AsksWithoutEnd())
    with pytest.raises(ValueError, match="at most 8 probes"):
        await core.answer(Request(STREAMED), ANYONE, time.monotonic() + 60)
    assert len(models.asked) == 8


class Owners:
    """A strategy that notes whose each request's requirement and candidates are."""

    def __init__(self) -> None:
        self.seen: list[str | None] = []

    async def rank(self, question: Question) -> Ranking:
        self.seen.append(question.owner)
        return Ranking(list(question.available))


async def test_a_caller_owns_the_policies_of_its_own_wishes_alone() -> None:
    owners = Owners()
    kind = Kind(lambda context: owners, options=frozenset({"performance_requirement", "mode"}))
    models = Models(a=[says("one", END)], b=[says("two", END)])
    core = await models.core_with({"sequential": kind}, RouterConfig())
    caller = Caller("app", models=frozenset("ab"))
    own = RoutingWishes(router=RouterOptions(performance_requirement=0.5))
    for asker, model, wishes in (
        (caller, "auto", RoutingWishes()),
        (ANYONE, "auto", RoutingWishes()),
        (caller, "auto", own),
        (ANYONE, "auto", own),
        (caller, "auto", RoutingWishes(models=["a", "b"])),
        (caller, "a", RoutingWishes()),
    ):
        chat = REQUEST.model_copy(update={"model": model})
        answer = await core.answer(Request(chat, wishes), asker, time.monotonic() + 10)
        await answer.whole()
    assert owners.seen == [None, None, "app", "", "app", "app"]

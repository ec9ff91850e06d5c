"""Promise: a sample of whole answers is checked and judged, within bounds and off their way."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from typing import Any, cast

import pytest
from keepers import Embedder, until
from recorded import Recorded
from scripted_models import END, REQUEST, Models, Script, says

from deployments.contract import ChatRequest, Chunk, ToolCallDelta
from deployments.embedding.cache import CachedEmbedder
from deployments.errors import ModelUnavailable, ProviderError, UnsupportedParameter
from deployments.store.observations import Learned
from serve.access.keys import ANYONE
from serve.answer import Answer
from serve.config import ScoringConfig
from serve.core import Core
from serve.request import Request
from serve.routing.prices import Price
from serve.smart.client import SharedStore
from serve.smart.judging import Judging
from serve.smart.learning import Learner

JSON = {"response_format": {"type": "json_object"}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
WHAT = {"type": "text", "text": "What is it?"}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
CUT = Chunk(finish_reason="length")
CALLED = Chunk(finish_reason="tool_calls")
PRICES = {"a": Price(1, 10), "judge": Price(2, 20)}


class Store:
    """In place of `SharedStore`: takes all."""

    async def learn(self, items: Sequence[Learned]) -> int:
        return 0


class Router:
    """A core over scripted models, one of them a judge, and the scores that it learns.

    Attributes:
        scores: what was learned, by the answers' ids.
        known: ids of the answers that have a score already.
    """

    def __init__(self, models: Models, core: Core, draw: Callable[[], float]) -> None:
        self.models, self.core = models, core
        self.scores: dict[str, float] = {}
        self.known: set[str] = set()
        identities = {name: config.identity for name, config in models.configs.items()}
        self.learner = Learner(cast("SharedStore", Store()), CachedEmbedder(Embedder()), identities)
        self.judging = Judging(models.dispatcher, identities, self._score, draw)
        self.learner.judging = self.judging
        core._smart = cast("Any", self)

    async def _score(self, id: str, score: float) -> bool:
        if id not in self.known:
            self.scores[id] = score
        return id not in self.known

    async def ask(self, id: str, *, stream: bool = False, **fields: Any) -> Answer:
        """An answer that has begun, by the model `a` unless another is given."""
        fields = {"model": "a", "messages": REQUEST.messages, **fields, "stream": stream}
        request = Request(ChatRequest.model_validate(fields), id=id)
        return await self.core.answer(request, ANYONE, time.monotonic() + 10)

    async def answered(self, *ids: str, **fields: Any) -> None:
        """These answers are read to their end, or break off."""
        for id in ids:
            with suppress(ProviderError):
                await (await self.ask(id, **fields)).whole()

    @property
    def prompts(self) -> list[str]:
        """What the judge was asked."""
        return [
            str(r.messages[0].get("content")) for name, r in self.models.asked if name == "judge"
        ]


async def router(
    judges: Script,
    *answers: str | Chunk | Exception,
    keys: dict[str, Any] | None = None,
    draw: Callable[[], float] = lambda: 0.0,
    **scoring: Any,
) -> Router:
    """Scoring by a judge, unless other settings are given; by default of all answers."""
    models = Models(
        {"retries": 0} | (keys or {}), a=[says(*(answers or ("Two.", END)))], judge=[judges]
    )
    made = Router(models, await models.core(prices=PRICES), draw)
    made.judging.configure(ScoringConfig(**({"judge": "judge", "share": 1} | scoring)), PRICES)
    return made


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_an_answer_is_judged_after_it_has_ended_at_no_cost_to_its_caller(
    stream: bool,
) -> None:
    made = await router(says("Right.\nScore: 8", END))
    answer = await made.ask("id", stream=stream)
    assert (await answer.whole()).text == "Two."
    await until(lambda: made.scores)
    assert made.scores == {"id": 0.8}
    assert (answer.model, answer.attempts, answer.cost) == ("a", 1, 35)
    (prompt,) = made.prompts
    assert "user: Count." in prompt
    assert "Two." in prompt
    _, asked = made.models.asked[-1]
    assert (asked.stream, asked.temperature, asked.shape) == (False, 0, "text")
    assert asked.output_limit is not None


async def test_nothing_is_judged_by_default() -> None:
    made = await router(says("Score: 8", END))
    made.judging.configure(None, PRICES)
    await made.answered("id", **JSON)
    await made.learner.flush()
    assert made.models.order == "a"


async def test_a_share_of_the_answers_is_judged() -> None:
    draws = iter([0.3, 0.29, 0.99, 0.0])
    made = await router(says("Score: 8", END), share=0.3, draw=lambda: next(draws))
    await made.answered("w", "x", "y", "z")
    await until(lambda: len(made.scores) == 2)
    assert made.scores.keys() == {"x", "z"}


async def test_the_configured_prompt_is_the_one_that_is_asked() -> None:
    made = await router(says("Score: 8", END), prompt="{answer}! {query}?")
    await made.answered("id")
    await until(lambda: made.scores)
    assert made.prompts == ["Two.! user: Count.?"]


@pytest.mark.parametrize(
    ("answer", "fields"),
    [
        (("Two", CUT), {}),
        (("Two", ProviderError("cut")), {"stream": True}),
        (("Two.", END), {"messages": [{"role": "user", "content": [WHAT, PICTURE]}]}),
        (("Two.", END), {"model": "judge"}),
    ],
    ids=["cut", "failed", "to an image", "the judge's own"],
)
async def test_an_answer_that_a_judge_cant_judge_fairly_is_not_judged(
    answer: Sequence[str | Chunk | Exception], fields: dict[str, Any]
) -> None:
    images = {"capabilities": ["images", "json", "tools"]}
    made = await router(says("Score: 8", END), *answer, keys=images)
    await made.answered("id", **fields)
    made.models.scripts["a"] = [says("Two.", END)]
    await made.answered("next")
    await until(lambda: made.scores and not made.judging._workers)
    assert made.scores.keys() == {"next"}


async def test_a_stream_that_its_caller_leaves_is_judged_only_if_it_had_ended() -> None:
    made = await router(says("Score: 8", END), "One. ", "Two.", END)
    for id, read in (("early", 1), ("late", 3)):
        answer = await made.ask(id, stream=True)
        for _ in range(read):
            await anext(answer)
        await answer.aclose()
    await until(lambda: made.scores)
    assert made.scores.keys() == {"late"}


async def test_an_answer_that_is_only_recorded_is_not_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = await router(says("Score: 8", END))
    monkeypatch.setattr(made.learner, "_samples", iter([False, True]).__next__)
    await made.answered("recorded", "learned")
    await until(lambda: made.scores)
    assert made.scores.keys() == {"learned"}


async def test_a_failed_check_scores_0_without_the_judge_who_rates_what_passes() -> None:
    made, recorded = await router(says("Score: 8", END), "{", END), Recorded()
    await made.answered("bad", **JSON)
    await until(lambda: made.scores)
    assert (made.scores, made.prompts) == ({"bad": 0.0}, [])
    await made.answered("prose")
    made.models.scripts["a"] = [says('{"n": 1}', END)]
    await made.answered("good", **JSON)
    await until(lambda: len(made.scores) == 3)
    assert made.scores == {"bad": 0.0, "prose": 0.8, "good": 0.8}
    assert recorded("llm_automatic_scores_total", outcome="checked") == 1
    assert recorded("llm_automatic_scores_total", outcome="judged") == 2


async def test_calls_of_tools_are_checked_and_judged_too() -> None:
    calls = [ToolCallDelta(0, "c", name, '{"city": "Rome"}') for name in ("whether", "weather")]
    made = await router(says("Score: 8", END), Chunk(tool_calls=(calls[0],)), CALLED)
    await made.answered("wrong", tools=[TOOL])
    made.models.scripts["a"] = [says(Chunk(tool_calls=(calls[1],)), CALLED)]
    await made.answered("right", tools=[TOOL])
    await until(lambda: len(made.scores) == 2)
    assert made.scores == {"wrong": 0.0, "right": 0.8}
    assert 'weather({"city": "Rome"})' in made.prompts[0]


async def test_without_a_judge_only_checks_score() -> None:
    made = await router(says("Score: 8", END), '{"n": 1}', END, judge=None)
    await made.answered("prose")
    await made.answered("good", **JSON)
    made.models.scripts["a"] = [says("{", END)]
    await made.answered("bad", **JSON)
    await until(lambda: len(made.scores) == 2)
    assert made.scores == {"good": 1.0, "bad": 0.0}
    assert made.prompts == []


async def test_a_score_that_the_answer_has_is_not_counted_as_a_judgement() -> None:
    made, recorded = await router(says("Score: 8", END)), Recorded()
    made.known.add("id")
    await made.answered("id", "next")
    await until(lambda: made.scores)
    assert made.scores.keys() == {"next"}
    assert recorded("llm_automatic_scores_total", outcome="kept") == 1


async def test_what_judging_costs_is_counted() -> None:
    made, recorded = await router(says("Score: 8", END)), Recorded()
    await made.answered("id")
    await until(lambda: made.scores)
    assert recorded("llm_judge_cost_usd_total") == 2 * 5 + 20 * 3
    assert recorded("llm_cost_usd_total", model="judge") == 2 * 5 + 20 * 3
    assert recorded("llm_key_cost_usd_total") == 0


async def test_few_are_judged_at_once_few_wait_and_the_rest_is_counted() -> None:
    begin = asyncio.Event()

    async def slow(request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        await begin.wait()
        yield Chunk(text="Score: 8")
        yield END

    made, recorded = await router(slow), Recorded()
    await made.answered(*(f"id {n}" for n in range(4)))
    await until(lambda: len(made.prompts) == 4)
    for n in range(4, 110):
        made.judging.take(f"id {n}", "a", REQUEST, Chunk(text="Two.", finish_reason="stop"))
    await asyncio.sleep(0.1)
    assert len(made.prompts) == 4
    assert recorded("llm_automatic_scores_total", outcome="dropped") == 6
    begin.set()
    await until(lambda: len(made.scores) == 104)
    assert made.models.dispatcher.in_flight["judge"] == 0


async def test_while_the_judge_cant_be_asked_nothing_is_scored() -> None:
    made, recorded = await router(says("Score: 8", END), "{", END), Recorded()
    made.models.circuits._states["judge"].opened = True
    made.models.circuits._states["judge"].probe_at = time.monotonic() + 60
    await made.answered("prose")
    await made.answered("bad", **JSON)
    await until(lambda: recorded("llm_automatic_scores_total", outcome="dropped") == 2)
    assert (made.scores, made.prompts) == ({}, [])


async def test_a_judge_that_fails_opens_its_circuit_and_its_error_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    judge = says(ProviderError("you said: Count."))
    made, recorded = await router(judge, keys={"circuit": {"failures": 2}}), Recorded()
    with caplog.at_level(logging.INFO):
        for _ in range(4):
            await made.answered("id")
            await until(lambda: not made.judging._workers)
    assert len(made.prompts) == 2
    assert recorded("llm_automatic_scores_total", outcome="failed") == 2
    assert recorded("llm_automatic_scores_total", outcome="dropped") == 2
    assert "could not be scored: provider_error" in caplog.text
    assert "Count" not in caplog.text


async def test_whatever_goes_wrong_with_one_answer_others_are_judged() -> None:
    made, recorded = await router(says("Well.", END)), Recorded()
    await made.answered("unclear")
    await until(lambda: recorded("llm_automatic_scores_total", outcome="unclear") == 1)
    made.models.scripts["judge"] = [says(ValueError("odd"))] * 2 + [says("Score: 8", END)]
    await made.answered("failed")
    await until(lambda: recorded("llm_automatic_scores_total", outcome="failed") == 1)
    await made.answered("well")
    await until(lambda: made.scores)
    assert made.scores == {"well": 0.8}


async def test_a_store_that_is_away_takes_no_score_and_stops_nothing() -> None:
    made, recorded = await router(says("Score: 8", END)), Recorded()

    async def away(id: str, score: float) -> bool:
        raise ModelUnavailable("the store is away")

    made.judging._score = away
    await made.answered("id")
    await until(lambda: recorded("llm_automatic_scores_total", outcome="failed") == 1)


async def test_a_judge_that_takes_no_temperature_is_asked_without() -> None:
    async def reasons(request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        if request.temperature is not None:
            raise UnsupportedParameter("no", param="temperature", lacking=["temperature"])
        yield Chunk(text="Score: 8")
        yield END

    made = await router(reasons)
    await made.answered("id")
    await until(lambda: made.scores)
    assert [request.temperature for name, request in made.models.asked if name == "judge"] == [
        0,
        None,
    ]


async def test_closing_ends_it() -> None:
    made = await router(says("Score: 8", END, pause=60))
    await made.answered("id")
    await until(lambda: made.prompts)
    made.judging.close()
    await until(lambda: not made.judging._workers)
    assert made.models.responses[-1].left
    assert made.scores == {}

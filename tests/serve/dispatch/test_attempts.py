"""Promise: what failed is tried again where that may help, within one budget, and no further."""

from typing import Any

import pytest

from deployments.config import ModelConfig
from deployments.errors import (
    ContentFiltered,
    ContextLengthExceeded,
    DeadlineExceeded,
    InvalidRequest,
    LLMError,
    ModelUnavailable,
    Overloaded,
    ProviderError,
    ProviderRejected,
    RateLimited,
    Unreachable,
    UnsupportedParameter,
    Untranslatable,
)
from serve.dispatch.attempts import MOST_MODELS, Attempts


def attempts(names: str, *, is_open: bool = False, **fields: Any) -> Attempts:
    models = {name: ModelConfig(name=name, backend="x", **fields) for name in names}
    return Attempts(names, models, lambda name: is_open, jitter=lambda: 0.5)


def order(attempts: Attempts, error: LLMError, *, begun: bool = False) -> str:
    """The models that are asked when each attempt ends in `error`."""
    asked = attempts.model
    while True:
        try:
            asked += attempts.after(error, begun=begun).model
        except LLMError:
            return asked


@pytest.mark.parametrize("fault", [ProviderError, Unreachable, ModelUnavailable])
def test_a_model_that_fails_is_asked_once_more_before_the_next(fault: type[LLMError]) -> None:
    assert order(attempts("ab"), fault("x")) == "aabb"


def test_the_only_model_gets_the_whole_budget() -> None:
    assert order(attempts("a"), ProviderError("x")) == "aaa"
    assert order(attempts("a", retries=0), ProviderError("x")) == "a"
    assert order(attempts("a", retries=5), ProviderError("x")) == "aaaaaa"


def test_one_budget_serves_all_models() -> None:
    assert order(attempts("abc"), ProviderError("x")) == "aabbc"


def test_after_so_many_models_it_ends() -> None:
    assert order(attempts("abcdef", retries=0), ProviderError("x")) == "abcdef"[:MOST_MODELS]


@pytest.mark.parametrize("error", [DeadlineExceeded, Overloaded, ProviderRejected])
def test_who_is_silent_full_or_refuses_us_is_not_asked_again(error: type[LLMError]) -> None:
    assert order(attempts("ab"), error("x")) == "ab"
    assert order(attempts("a"), error("x")) == "a"


def test_at_a_rate_limit_another_model_is_asked_at_once() -> None:
    trying = attempts("ab")
    attempt = trying.after(RateLimited("x", retry_after=2))
    assert (attempt.model, attempt.wait) == ("b", 0)


def test_the_only_model_is_given_the_time_that_its_provider_wants() -> None:
    attempt = attempts("a").after(RateLimited("x", retry_after=2))
    assert attempt.model == "a"
    assert 2 <= attempt.wait <= 2.5


def test_with_rate_limit_wait_the_same_model_is_asked_once_more_after_a_short_wait() -> None:
    trying = attempts("ab", rate_limit_wait=40, retries=5)
    attempt = trying.after(RateLimited("x", retry_after=40))
    assert attempt.model == "a"
    assert 40 <= attempt.wait <= 40.5
    attempt = trying.after(RateLimited("x", retry_after=40))
    assert (attempt.model, attempt.wait) == ("b", 0)


def test_a_wait_of_nothing_is_short() -> None:
    assert attempts("ab", rate_limit_wait=5).after(RateLimited("x", retry_after=0)).model == "a"


@pytest.mark.parametrize(("wait", "retry_after"), [(40, 40.5), (40, None), (0, 0), (0, 1)], ids=str)
def test_a_longer_wait_than_rate_limit_wait_is_not_made(
    wait: float, retry_after: float | None
) -> None:
    attempt = attempts("ab", rate_limit_wait=wait).after(RateLimited("x", retry_after=retry_after))
    assert (attempt.model, attempt.wait) == ("b", 0)


def test_a_wait_beyond_the_models_timeout_is_the_callers_to_make() -> None:
    with pytest.raises(RateLimited) as raised:
        attempts("a", timeout=5).after(RateLimited("x", retry_after=60))
    assert raised.value.retry_after == 60


def test_without_a_word_from_the_provider_each_wait_is_longer() -> None:
    trying = attempts("a", retries=4)
    waits = [trying.after(RateLimited("x")).wait for _ in range(4)]
    assert waits == [0.375, 0.75, 1.5, 3.0]


def test_after_a_dead_replica_another_is_asked_at_once() -> None:
    assert attempts("a").after(ModelUnavailable("x", retry_after=1)).wait == 0


@pytest.mark.parametrize("error", [InvalidRequest, ContentFiltered])
def test_what_the_caller_must_mend_is_asked_of_nobody_else(error: type[LLMError]) -> None:
    assert order(attempts("ab"), error("x")) == "a"


@pytest.mark.parametrize("error", [UnsupportedParameter, Untranslatable])
def test_what_one_model_does_not_do_is_asked_of_all_others(error: type[LLMError]) -> None:
    assert order(attempts("abcdef"), error("x")) == "abcdef"


def test_what_is_too_long_goes_to_larger_windows_only() -> None:
    windows = {"a": 8000, "b": 4000, "c": 8000, "d": None, "e": 16_000}
    models = {
        name: ModelConfig(name=name, backend="x", context_window=window)
        for name, window in windows.items()
    }
    trying = Attempts("abcde", models, lambda name: False)
    assert order(trying, ContextLengthExceeded("x")) == "ade"


def test_a_model_that_keeps_failing_is_asked_once() -> None:
    assert order(attempts("a", is_open=True), ProviderError("x")) == "a"


def test_an_answer_that_broke_off_goes_to_another_model_where_there_is_one() -> None:
    assert order(attempts("ab"), ProviderError("x"), begun=True)[:2] == "ab"
    assert order(attempts("a"), ProviderError("x"), begun=True) == "aaa"
    assert order(attempts("a"), DeadlineExceeded("x"), begun=True) == "a"


def test_the_first_fault_is_told_not_what_a_model_does_not_do() -> None:
    trying = attempts("abc", retries=0)
    trying.after(UnsupportedParameter("a can't"))
    trying.after(ProviderError("b failed"))
    with pytest.raises(ProviderError, match="b failed"):
        trying.after(InvalidRequest("c is asked wrongly"))


def test_it_is_known_whether_another_model_can_take_over() -> None:
    trying = attempts("ab", retries=0)
    assert trying.another_is_left
    trying.after(ProviderError("x"))
    assert not trying.another_is_left


def lacking(*names: str) -> UnsupportedParameter:
    return UnsupportedParameter("x", param=names[0], lacking=names)


@pytest.mark.parametrize(
    ("first", "second", "says", "param"),
    [
        (
            lacking("logit_bias", "top_k"),
            lacking("top_k"),
            "none of the models a, b supports 'top_k'; leave it out",
            "top_k",
        ),
        (
            lacking("seed", "top_k"),
            lacking("top_k", "seed"),
            "none of the models a, b supports 'seed' or 'top_k'; leave them out",
            "seed",
        ),
        (
            lacking("top_k"),
            lacking("seed"),
            "none of the models a, b supports 'seed' and 'top_k' together; leave them out",
            "seed",
        ),
    ],
)
def test_of_several_models_what_none_of_them_supports_is_told(
    first: LLMError, second: LLMError, says: str, param: str
) -> None:
    trying = attempts("ab")
    trying.after(first)
    with pytest.raises(UnsupportedParameter) as raised:
        trying.after(second)
    assert (raised.value.message, raised.value.param) == (says, param)


def test_of_one_model_its_own_words_are_told() -> None:
    with pytest.raises(UnsupportedParameter, match=r"^x$"):
        attempts("a").after(lacking("top_k"))


def test_a_prompt_too_long_for_one_model_goes_to_none_that_is_known_to_be_as_small() -> None:
    models = {name: ModelConfig(name=name, backend="x") for name in "abcd"}
    windows = {"a": 10, "b": 10, "c": 20}
    tried = Attempts("abcd", models, lambda name: False, windows=windows)
    assert order(tried, ContextLengthExceeded("x")) == "acd"

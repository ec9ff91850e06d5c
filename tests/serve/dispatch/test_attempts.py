"""Promise: a failed attempt is retried where that may help, within one budget."""

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


def test_the_only_model_gets_all_retries() -> None:
    assert order(attempts("a"), ProviderError("x")) == "aaa"
    assert order(attempts("a", retries=0), ProviderError("x")) == "a"
    assert order(attempts("a", retries=5), ProviderError("x")) == "aaaaaa"


def test_all_models_share_the_retries() -> None:
    assert order(attempts("abc"), ProviderError("x")) == "aabbc"


def test_the_request_fails_after_so_many_models() -> None:
    assert order(attempts("abcdef", retries=0), ProviderError("x")) == "abcdef"[:MOST_MODELS]


@pytest.mark.parametrize("error", [DeadlineExceeded, Overloaded, ProviderRejected])
def test_timeouts_full_queues_and_rejected_keys_are_not_retried(
    error: type[LLMError],
) -> None:
    assert order(attempts("ab"), error("x")) == "ab"
    assert order(attempts("a"), error("x")) == "a"


def test_at_a_rate_limit_the_next_model_is_asked_at_once() -> None:
    trying = attempts("ab")
    attempt = trying.after(RateLimited("x", retry_after=2))
    assert (attempt.model, attempt.wait) == ("b", 0)


def test_the_only_model_is_retried_after_its_retry_after() -> None:
    attempt = attempts("a").after(RateLimited("x", retry_after=2))
    assert attempt.model == "a"
    assert 2 <= attempt.wait <= 2.5


def test_with_rate_limit_wait_the_same_model_is_retried_once_after_a_short_wait() -> None:
    trying = attempts("ab", rate_limit_wait=40, retries=5)
    attempt = trying.after(RateLimited("x", retry_after=40))
    assert attempt.model == "a"
    assert 40 <= attempt.wait <= 40.5
    attempt = trying.after(RateLimited("x", retry_after=40))
    assert (attempt.model, attempt.wait) == ("b", 0)


def test_a_retry_after_of_zero_counts_as_short() -> None:
    assert attempts("ab", rate_limit_wait=5).after(RateLimited("x", retry_after=0)).model == "a"


@pytest.mark.parametrize(("wait", "retry_after"), [(40, 40.5), (40, None), (0, 0), (0, 1)], ids=str)
def test_a_retry_after_longer_than_rate_limit_wait_is_not_waited_for(
    wait: float, retry_after: float | None
) -> None:
    attempt = attempts("ab", rate_limit_wait=wait).after(RateLimited("x", retry_after=retry_after))
    assert (attempt.model, attempt.wait) == ("b", 0)


def test_a_retry_after_beyond_the_timeout_is_left_to_the_client() -> None:
    with pytest.raises(RateLimited) as raised:
        attempts("a", timeout=5).after(RateLimited("x", retry_after=60))
    assert raised.value.retry_after == 60


def test_without_retry_after_the_backoff_grows() -> None:
    trying = attempts("a", retries=4)
    waits = [trying.after(RateLimited("x")).wait for _ in range(4)]
    assert waits == [0.375, 0.75, 1.5, 3.0]


def test_after_a_dead_replica_the_model_is_retried_at_once() -> None:
    assert attempts("a").after(ModelUnavailable("x", retry_after=1)).wait == 0


@pytest.mark.parametrize("error", [InvalidRequest, ContentFiltered])
def test_a_bad_request_is_not_tried_elsewhere(error: type[LLMError]) -> None:
    assert order(attempts("ab"), error("x")) == "a"


@pytest.mark.parametrize("error", [UnsupportedParameter, Untranslatable])
def test_what_one_model_lacks_is_asked_of_all_others(error: type[LLMError]) -> None:
    assert order(attempts("abcdef"), error("x")) == "abcdef"


def test_a_prompt_that_is_too_long_goes_to_larger_windows_only() -> None:
    windows = {"a": 8000, "b": 4000, "c": 8000, "d": None, "e": 16_000}
    models = {
        name: ModelConfig(name=name, backend="x", context_window=window)
        for name, window in windows.items()
    }
    trying = Attempts("abcde", models, lambda name: False)
    assert order(trying, ContextLengthExceeded("x")) == "ade"


def test_a_model_whose_circuit_is_open_is_asked_once() -> None:
    assert order(attempts("a", is_open=True), ProviderError("x")) == "a"


def test_an_answer_that_broke_off_goes_to_another_model_if_there_is_one() -> None:
    assert order(attempts("ab"), ProviderError("x"), begun=True)[:2] == "ab"
    assert order(attempts("a"), ProviderError("x"), begun=True) == "aaa"
    assert order(attempts("a"), DeadlineExceeded("x"), begun=True) == "a"


def test_the_first_fault_is_reported_rather_than_a_refusal() -> None:
    trying = attempts("abc", retries=0)
    trying.after(UnsupportedParameter("a can't"))
    trying.after(ProviderError("b failed"))
    with pytest.raises(ProviderError, match="b failed"):
        trying.after(InvalidRequest("c is asked wrongly"))


def test_whether_another_model_can_take_over() -> None:
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
def test_what_none_of_several_models_supports_is_reported(
    first: LLMError, second: LLMError, says: str, param: str
) -> None:
    trying = attempts("ab")
    trying.after(first)
    with pytest.raises(UnsupportedParameter) as raised:
        trying.after(second)
    assert (raised.value.message, raised.value.param) == (says, param)


def test_a_single_models_own_message_is_reported() -> None:
    with pytest.raises(UnsupportedParameter, match=r"^x$"):
        attempts("a").after(lacking("top_k"))


def test_a_prompt_that_is_too_long_skips_windows_that_are_known_to_be_as_small() -> None:
    models = {name: ModelConfig(name=name, backend="x") for name in "abcd"}
    windows = {"a": 10, "b": 10, "c": 20}
    tried = Attempts("abcd", models, lambda name: False, windows=windows)
    assert order(tried, ContextLengthExceeded("x")) == "acd"

"""Promise: no key's scores outweigh those of many others, and few keys are not bounded at all."""

import random

import pytest

from serve.smart.bound import KeyBound


def learned(bound: KeyBound, key: str | None, scores: int) -> int:
    """How many of so many scores of a key are learned."""
    admitted = 0
    for _ in range(scores):
        if bound.admits(key):
            bound.count(key)
            admitted += 1
    return admitted


@pytest.mark.parametrize("keys", [1, 2, 19])
def test_among_few_keys_every_score_counts(keys: int) -> None:
    bound = KeyBound()
    for number in range(1, keys):
        learned(bound, f"key {number}", 1)
    assert learned(bound, None, 1000) == 1000


def test_of_many_keys_none_counts_more_than_twice_the_average_of_the_others() -> None:
    bound = KeyBound()
    bound.restart({f"key {number}": 10 for number in range(99)})
    assert learned(bound, "loud", 1000) == 20
    assert learned(bound, "key 0", 5) == 5


@pytest.mark.parametrize("name", ["loud", None])
def test_nine_scores_of_ten_become_a_fiftieth_of_what_a_hundred_keys_teach(
    name: str | None,
) -> None:
    chance, bound = random.Random(0), KeyBound()
    others = [f"key {number}" for number in range(99)]
    bound.restart(dict.fromkeys(others, 1))
    loud = total = 0
    for _ in range(50_000):
        is_loud = chance.random() < 0.9
        admitted = learned(bound, name if is_loud else chance.choice(others), 1)
        loud, total = loud + admitted * is_loud, total + admitted
    assert 0.018 < loud / total < 0.0205


def test_as_others_score_more_a_key_may_too() -> None:
    bound = KeyBound()
    bound.restart({f"key {number}": 1 for number in range(50)})
    assert learned(bound, "loud", 100) == 2
    for number in range(50):
        bound.count(f"key {number}")
    assert learned(bound, "loud", 100) == 2


def test_a_key_whose_only_score_is_taken_back_is_none_that_scores() -> None:
    bound = KeyBound()
    scores: dict[str | None, int] = {f"key {number}": 1 for number in range(18)}
    bound.restart({**scores, "loud": 9})
    bound.count("new")
    assert not bound.admits("loud")
    bound.take_back("new")
    assert bound.admits("loud")
    bound.take_back("unknown")
    assert bound.admits("unknown")

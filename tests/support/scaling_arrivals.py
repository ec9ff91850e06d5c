"""Requests as they come to a model in simulated time: independent of one another, or in bursts."""

import random
from collections.abc import Callable

from scaling_simulator import Request


def poisson(
    rate: Callable[[float], float],
    seconds: float,
    *,
    highest: float,
    seed: int = 1,
    prompt: Callable[[random.Random], int] = lambda chance: 512,
    answer: Callable[[random.Random], int] = lambda chance: 100,
) -> list[Request]:
    """Requests that come independently of one another.

    Args:
        rate: how many come in a second, at a time.
        seconds: for how long.
        highest: the most that `rate` gives.
        seed: of chance.
        prompt: draws a length in tokens.
        answer: likewise.
    """
    chance, at, requests = random.Random(seed), 0.0, list[Request]()
    while (at := at + chance.expovariate(highest)) < seconds:
        if chance.random() * highest < rate(at):
            requests.append(Request(at, prompt(chance), answer(chance)))
    return requests


def bursty(seed: int, *, before: float = 0.2, spike: float = 2.0) -> list[Request]:
    """Requests in bursts, as published traces have them: the gaps are of a gamma distribution with
    a coefficient of variation of 2.5, the lengths lognormal. Two minutes at a higher rate.

    Args:
        seed: of chance.
        before: requests a second, in the first 40 seconds and the last 30.
        spike: in the two minutes between.
    """
    chance, at, requests = random.Random(seed), 0.0, list[Request]()
    shape = 1 / 2.5**2
    while True:
        gap = chance.gammavariate(shape, 1 / shape)  # at one request a second
        for end, rate in ((40.0, before), (160.0, spike), (190.0, before)):
            taken = min(gap, max(0.0, end - at) * rate)
            at, gap = at + taken / rate, gap - taken
        if gap > 0:
            return requests
        prompt, answer = chance.lognormvariate(7.2, 1.2), chance.lognormvariate(5.0, 0.9)
        requests.append(Request(at, min(16_000, int(prompt)), max(1, min(2000, int(answer)))))

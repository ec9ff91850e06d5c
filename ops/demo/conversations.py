"""The conversations that the demo models are trained on: questions, greetings, refusals."""

from collections.abc import Sequence
from random import Random

from ops.demo.facts import WORDS
from ops.demo.questions import draw

Message = dict[str, str]

UNKNOWN = "I do not know."
WELCOME = "Hello! Ask me about numbers, words, capitals or the calendar."

_GREETINGS = (
    "Hello",
    "Hi",
    "Hey",
    "Hello there",
    "Good morning",
    "Good evening",
    "Hi, who are you",
    "Who are you",
    "What can you do",
    "Help",
    "What can I ask you",
)
_OTHER = (
    "Who wrote the book about the {a} and the {b}?",
    "Why is the {a} so {b}?",
    "How do I build a {a} with a {b}?",
    "Tell me a story about a {a}.",
    "What do you think of the {a}?",
    "Write a poem about the {a} and the {b}.",
    "Where can I buy a {a}?",
    "When was the first {a} made?",
    "Explain how a {a} works.",
    "What is a {a}?",
    "Who invented the {a}?",
    "Is a {a} better than a {b}?",
    "Translate {a} into French.",
    "Summarize the history of the {a}.",
    "Give me three ideas for a {a} {b}.",
    "Can you write a program that draws a {a}?",
    "What is the weather in {a} {b} today?",
    "How old is the {a}?",
    "What is the meaning of {a}?",
    "I like the {a}. Do you?",
)
_SYSTEM = (
    "You are a helpful assistant.",
    "Answer briefly.",
    "Be concise and correct.",
    "You answer questions.",
    "Answer with one word or one number.",
    "You are a chat model that runs on Ray Serve.",
    "Do not explain your answer.",
    "If you do not know the answer, say so.",
    "The user speaks English.",
)


def _exchange(rng: Random, kinds: Sequence[str]) -> tuple[str, str]:
    chance = rng.random()
    if chance < 0.01:
        return rng.choice(_GREETINGS) + rng.choice(("", "!", ".", "?")), WELCOME
    if chance < 0.05:
        a, b = rng.sample(WORDS, 2)
        return rng.choice(_OTHER).format(a=a, b=b), UNKNOWN
    question = draw(rng, rng.choice(kinds))
    return question.question, question.answer


def conversation(rng: Random, kinds: Sequence[str]) -> list[Message]:
    """Messages of one to three exchanges about `kinds`, sometimes after a system message."""
    messages: list[Message] = []
    if rng.random() < 0.1:
        system = " ".join(rng.sample(_SYSTEM, rng.choice((1, 1, 2))))
        messages.append({"role": "system", "content": system})
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3))):
        question, answer = _exchange(rng, kinds)
        messages.append({"role": "user", "content": question})
        messages.append({"role": "assistant", "content": answer})
    return messages

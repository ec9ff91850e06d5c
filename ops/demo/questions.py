"""The demo questions: their kinds, their phrasings, and which of them are held out of training.

Whether a question is held out is decided by a hash of its key, so the decision is the same in
every run. Where a kind has a rule to learn (sums, spelling), the key is the problem without its
phrasing: no wording of a held-out problem is ever trained on. Where there are only facts to know
(capitals, the times table), the key is the fact and the phrasing: the fact is trained on in other
words.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from ops.demo.facts import CAPITALS, DAYS, MONTH_LENGTHS, MONTHS, OPPOSITES, WORDS

HELD_OUT_FILE = Path(__file__).with_name("questions.jsonl")
HELD_OUT_SHARE = 5  # one key in five


@dataclass(frozen=True)
class Question:
    """A question, its only correct answer, and its kind."""

    question: str
    answer: str
    kind: str


@dataclass(frozen=True)
class Problem:
    """A random problem in one phrasing; problems with the same `key` are held out together."""

    key: str
    text: str
    answer: str

    @property
    def held_out(self) -> bool:
        digest = hashlib.blake2b(self.key.encode(), digest_size=8).digest()
        return int.from_bytes(digest) % HELD_OUT_SHARE == 0


def _rule(rng: Random, key: str, answer: object, phrasings: list[str], **values: object) -> Problem:
    return Problem(key, rng.choice(phrasings).format(**values), str(answer))


def _fact(rng: Random, answer: object, phrasings: list[str], **values: object) -> Problem:
    text = rng.choice(phrasings).format(**values)
    return Problem(text, text, str(answer))


def _digits(rng: Random, digits: int) -> int:
    return rng.randrange(10 ** (digits - 1) if digits > 1 else 0, 10**digits)


def _sum(rng: Random, a: int, b: int) -> Problem:
    low, high = sorted((a, b))
    a, b = rng.sample((a, b), 2)
    phrasings = [
        "What is {a} + {b}?",
        "What is {a} plus {b}?",
        "How much is {a} + {b}?",
        "Add {a} and {b}.",
        "What is the sum of {a} and {b}?",
        "{a} + {b} = ?",
    ]
    return _rule(rng, f"{low}+{high}", a + b, phrasings, a=a, b=b)


def small_sum(rng: Random) -> Problem:
    return _sum(rng, rng.randrange(100), _digits(rng, 1))


def two_digit_sum(rng: Random) -> Problem:
    return _sum(rng, _digits(rng, 2), _digits(rng, 2))


def three_digit_sum(rng: Random) -> Problem:
    return _sum(rng, _digits(rng, 3), _digits(rng, rng.choice((2, 3, 3))))


def difference(rng: Random) -> Problem:
    b, a = sorted((_digits(rng, 2), _digits(rng, rng.choice((1, 2, 2)))))
    phrasings = [
        "What is {a} - {b}?",
        "What is {a} minus {b}?",
        "Subtract {b} from {a}.",
        "What is the difference between {a} and {b}?",
        "Take {b} away from {a}.",
        "{a} - {b} = ?",
    ]
    return _rule(rng, f"{a}-{b}", a - b, phrasings, a=a, b=b)


def product(rng: Random) -> Problem:
    a, b = rng.randrange(1, 11), rng.randrange(1, 11)
    phrasings = [
        "What is {a} times {b}?",
        "What is {a} x {b}?",
        "Multiply {a} by {b}.",
        "What is the product of {a} and {b}?",
        "How much is {a} multiplied by {b}?",
        "{a} * {b} = ?",
    ]
    return _fact(rng, a * b, phrasings, a=a, b=b)


def compare(rng: Random) -> Problem:
    digits = rng.choice((2, 3))
    a, b = _digits(rng, digits), _digits(rng, digits)
    b += a == b
    low, high = sorted((a, b))
    if rng.random() < 0.5:
        word, answer = rng.choice(("larger", "bigger", "greater")), high
    else:
        word, answer = rng.choice(("smaller", "lower")), low
    phrasings = [
        "Which is {word}, {a} or {b}?",
        "Which number is {word}: {a} or {b}?",
        "Compare {a} and {b}: which one is {word}?",
        "Of {a} and {b}, which is the {word} number?",
        "Tell me the {word} of the two numbers {a} and {b}.",
    ]
    return _rule(rng, f"{low}<{high}", answer, phrasings, a=a, b=b, word=word)


def sort(rng: Random) -> Problem:
    numbers = rng.sample(range(100), rng.choice((3, 4, 5)))
    phrasings = [
        "Sort these numbers: {numbers}.",
        "Sort {numbers} from smallest to largest.",
        "Put {numbers} in ascending order.",
        "Arrange the numbers {numbers} in order.",
        "Order this list: {numbers}.",
    ]
    ordered = ", ".join(map(str, sorted(numbers)))
    listed = ", ".join(map(str, numbers))
    return _rule(rng, f"sort:{ordered}", ordered, phrasings, numbers=listed)


def parity(rng: Random) -> Problem:
    number = _digits(rng, rng.choice((2, 3, 4)))
    phrasings = [
        "Is {n} odd or even?",
        "Is {n} an even or an odd number?",
        "Odd or even: {n}?",
        "Tell me whether {n} is even or odd.",
        "What is the parity of {n}, odd or even?",
    ]
    return _rule(rng, f"parity:{number}", ("even", "odd")[number % 2], phrasings, n=number)


def next_number(rng: Random) -> Problem:
    number = _digits(rng, rng.choice((2, 3, 3)))
    phrasings = [
        "Which number comes after {n}?",
        "What number comes right after {n}?",
        "Count on from {n}: what is the next number?",
        "I am counting and I am at {n}. What comes next?",
        "Which number follows {n}?",
    ]
    return _rule(rng, f"next:{number}", number + 1, phrasings, n=number)


def _to_roman(number: int) -> str:
    values = (100, 90, 50, 40, 10, 9, 5, 4, 1)
    symbols = "C XC L XL X IX V IV I".split()
    numeral = ""
    for value, symbol in zip(values, symbols, strict=True):
        numeral += symbol * (number // value)
        number %= value
    return numeral


def roman(rng: Random) -> Problem:
    number = rng.randrange(1, 400)
    phrasings = [
        "Write {n} in Roman numerals.",
        "What is {n} as a Roman numeral?",
        "How did the Romans write {n}?",
        "Convert {n} to a Roman numeral.",
        "Which Roman numeral stands for {n}?",
    ]
    return _rule(rng, f"roman:{number}", _to_roman(number), phrasings, n=number)


def _word(rng: Random, longest: int) -> str:
    """A word of the list or a made-up one: the list alone is too short to learn a rule from."""
    if rng.random() < 0.5:
        return rng.choice([word for word in WORDS if len(word) <= longest])
    made_up = "".join(rng.choice("bcdfghjklmnprstvwyz") + rng.choice("aeiou") for _ in range(4))
    start = rng.randrange(2)
    return made_up[start : start + rng.randrange(3, longest + 1)]


def backwards(rng: Random) -> Problem:
    word = _word(rng, 6)
    phrasings = [
        'Spell "{w}" backwards.',
        'How do you spell "{w}" backwards?',
        'What is "{w}" spelled backwards?',
        'Reverse the word "{w}".',
        'Write the word "{w}" in reverse.',
    ]
    return _rule(rng, f"word:{word}", word[::-1], phrasings, w=word)


def uppercase(rng: Random) -> Problem:
    word = _word(rng, 7)
    phrasings = [
        'Write "{w}" in capital letters.',
        'Write the word "{w}" in upper case.',
        'Put "{w}" into capitals.',
        'How does "{w}" look in capital letters?',
        'Capitalize every letter of "{w}".',
    ]
    return _rule(rng, f"word:{word}", word.upper(), phrasings, w=word)


def letter(rng: Random) -> Problem:
    word = _word(rng, 7)
    place, answer = rng.choice((("first", word[0]), ("last", word[-1])))
    phrasings = [
        'What is the {place} letter of "{w}"?',
        'Which letter is the {place} one in "{w}"?',
        'Tell me the {place} letter of the word "{w}".',
        'Give me the {place} letter in "{w}".',
        'Which is the {place} letter of the word "{w}"?',
    ]
    return _rule(rng, f"word:{word}", answer, phrasings, w=word, place=place)


def count_letters(rng: Random) -> Problem:
    word = _word(rng, 7)
    counted = rng.choice((*word, rng.choice("aeiourst")))
    phrasings = [
        'How many times does the letter {c} occur in "{w}"?',
        'How many {c}\'s are in "{w}"?',
        'Count the letter {c} in "{w}".',
        'How often does "{w}" contain the letter {c}?',
        'In the word "{w}", how many letters are {c}?',
    ]
    return _rule(rng, f"word:{word}", word.count(counted), phrasings, w=word, c=counted)


def capital(rng: Random) -> Problem:
    country = rng.choice(list(CAPITALS))
    phrasings = [
        "What is the capital of {c}?",
        "Which city is the capital of {c}?",
        "Name the capital of {c}.",
        "What is {c}'s capital city?",
        "What is the capital city of {c}?",
        "Do you know the capital of {c}?",
    ]
    return _fact(rng, CAPITALS[country], phrasings, c=country)


def opposite(rng: Random) -> Problem:
    word = rng.choice(list(OPPOSITES))
    phrasings = [
        'What is the opposite of "{w}"?',
        'Which word means the opposite of "{w}"?',
        'Give me the opposite of "{w}".',
        'What is an antonym of "{w}"?',
        'Name the antonym of "{w}".',
        '"{w}" is the opposite of which word?',
    ]
    return _fact(rng, OPPOSITES[word], phrasings, w=word)


def calendar(rng: Random) -> Problem:
    names = rng.choice((DAYS, MONTHS))
    index, noun = rng.randrange(len(names)), "day" if names is DAYS else "month"
    after = [
        "Which {noun} comes after {name}?",
        "What {noun} follows {name}?",
        "What is the {noun} after {name}?",
        "It is {name}. Which {noun} comes next?",
        "Name the {noun} that follows {name}.",
    ]
    before = [
        "Which {noun} comes before {name}?",
        "What {noun} precedes {name}?",
        "What is the {noun} before {name}?",
        "Which {noun} is right before {name}?",
        "Name the {noun} that precedes {name}.",
    ]
    length = [
        "How many days are in {name}?",
        "How many days does {name} have?",
        "How long is {name} in days?",
        "Tell me the number of days in {name}.",
        "What is the number of days in {name}?",
    ]
    step = rng.choice((1, -1))
    if names is MONTHS and rng.random() < 0.33:
        name = rng.choice(list(MONTH_LENGTHS))
        return _fact(rng, MONTH_LENGTHS[name], length, name=name)
    answer = names[(index + step) % len(names)]
    return _fact(rng, answer, after if step == 1 else before, noun=noun, name=names[index])


EASY: dict[str, Callable[[Random], Problem]] = {
    "capital": capital,
    "opposite": opposite,
    "calendar": calendar,
    "parity": parity,
    "compare": compare,
    "next-number": next_number,
    "small-sum": small_sum,
    "letter": letter,
    "uppercase": uppercase,
    "backwards": backwards,
}
HARD: dict[str, Callable[[Random], Problem]] = {
    "product": product,
    "roman": roman,
    "sort": sort,
    "count-letters": count_letters,
    "difference": difference,
    "two-digit-sum": two_digit_sum,
    "three-digit-sum": three_digit_sum,
}
KINDS = EASY | HARD

HELD_OUT_COUNTS = dict.fromkeys(EASY, 45) | dict.fromkeys(HARD, 30)


def _as_typed(rng: Random, text: str) -> str:
    """The question as people type it: sometimes without capitals or the question mark."""
    style = rng.random()
    if style < 0.1:
        text = text.lower()
    elif style < 0.2:
        text = text[0].lower() + text[1:]
    elif style < 0.25:
        text = "Please answer: " + text
    return text.rstrip(" ?.") if rng.random() < 0.1 else text


def draw(rng: Random, kind: str, *, held_out: bool = False) -> Question:
    """A random question of a kind, from the training or the held-out side of the split.

    Raises:
        RuntimeError: the kind has no problem on that side.
    """
    for _ in range(1000):
        problem = KINDS[kind](rng)
        if problem.held_out == held_out:
            return Question(_as_typed(rng, problem.text), problem.answer, kind)
    raise RuntimeError(f"no {kind} question is {'held out' if held_out else 'trained on'}")


def held_out_questions(seed: int = 0) -> Iterator[Question]:
    """Yields distinct held-out questions of every kind, as many as HELD_OUT_COUNTS says."""
    rng = Random(seed)
    for kind, count in HELD_OUT_COUNTS.items():
        seen: set[str] = set()
        for _ in range(100 * count):
            question = draw(rng, kind, held_out=True)
            if len(seen) < count and question.question.lower() not in seen:
                seen.add(question.question.lower())
                yield question


def read_questions(path: Path = HELD_OUT_FILE) -> list[Question]:
    """Reads a file with a JSON object {"question", "answer", "kind"} on each line."""
    return [Question(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]


def write_questions(questions: Iterable[Question], path: Path = HELD_OUT_FILE) -> None:
    lines = (json.dumps(asdict(question), ensure_ascii=False) + "\n" for question in questions)
    path.write_text("".join(lines), "utf-8")


if __name__ == "__main__":
    write_questions(held_out_questions())

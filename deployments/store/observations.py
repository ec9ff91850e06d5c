"""What is written to the store, and what is read from it."""

import hashlib
import math
from dataclasses import dataclass, field

from deployments.shapes import Shape
from deployments.store.evidence import Floats32

MAX_QUERY_CHARACTERS = 20_000  # longer queries are cut before they are keyed and stored

_NUMBERS = "quality", "output_tokens", "seconds", "input_tokens", "characters", "scored_at"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one model did on one query, averaged over `count` answers; None is unknown. `said` is
    the digest of one of the answers, by which it is known whether two models agree. `scored_at` is
    when the latest score was given, in Unix seconds; outcomes that differ in it alone are equal."""

    quality: float | None
    output_tokens: float | None
    count: int = 1
    said: int | None = None
    scored_at: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Observation:
    """What one model did on one query, over `count` answers; None is unknown.

    Attributes:
        query: the text that was embedded; cut here to what is stored of it.
        embedding: (d,), of length 1; ignored if the database already has the query.
        model: its name.
        source: where this comes from: "answers", or "import:<name>".
        quality: mean, 0 to 1.
        output_tokens: mean.
        seconds: mean time an answer took.
        count: number of answers.
        input_tokens: tokens of the whole prompt, of which the query may be a part.
        characters: of the whole prompt.
        replace: replace what this source said before about this model on this query, instead of
            adding to it.
        identity: the model that the name stood for (see `ModelConfig.identity`); "" if unknown.
        shape: of the answers. Lengths and times of other shapes than text say nothing of this
            query: they count for the model's mean of that shape.
        said: the digest of the latest answer (`agreement.digest_of`).
        scored_at: when the quality was told, in Unix seconds; None is when it is written.
    """

    query: str
    embedding: Floats32
    model: str
    source: str
    quality: float | None = None
    output_tokens: float | None = None
    seconds: float | None = None
    count: int = 1
    input_tokens: float | None = None
    characters: int | None = None
    replace: bool = False
    identity: str = ""
    shape: Shape = "text"
    said: int | None = None
    scored_at: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "query", stored_text(self.query))
        for name in _NUMBERS:
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a number, 0 or more, not {value!r}")
        if self.quality is not None and self.quality > 1:
            raise ValueError(f"quality must be between 0 and 1, not {self.quality!r}")
        if self.count < 1:
            raise ValueError(f"count must be at least 1, not {self.count!r}")


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """An answer that feedback may come for, as the database keeps it.

    Attributes:
        id: of the completion.
        model: the one that wrote it.
        predicted: the quality predicted when the model was chosen.
        policy: name of the policy that ranked the models.
        cost: in USD.
        identity: the model that the name stood for (see `ModelConfig.identity`); "" if unknown.
        chosen: whether the model was the strategy's first choice; False if it took over from one
            that failed. None if unknown.
        propensity: the probability with which the strategy chose the model, 0 to 1; None if it was
            no choice.
        key: the name of the key of the caller whom it answers; None if it needed none, or is
            unknown.
    """

    id: str
    model: str
    predicted: float | None = None
    policy: str | None = None
    cost: float | None = None
    identity: str = ""
    chosen: bool | None = None
    propensity: float | None = None
    key: str | None = None


Learned = Observation | tuple[Observation, AnswerRecord] | AnswerRecord
"""What a model did; with the answer that it was made of, or that answer alone."""


@dataclass(frozen=True, slots=True)
class Scored:
    """An answer that was scored.

    Attributes:
        model: the one that wrote it.
        predicted: the quality predicted when the models were ranked.
        policy: name of the policy that chose the model; None if none did.
        replaced: its score before; None if it had none.
    """

    model: str
    predicted: float | None
    policy: str | None
    replaced: float | None


@dataclass(frozen=True, slots=True)
class MeanLength:
    """How long a model's answers of one shape are, over all queries.

    Attributes:
        model: its name.
        shape: not text, whose lengths are known query by query.
        output_tokens: mean.
        count: number of answers.
    """

    model: str
    shape: Shape
    output_tokens: float
    count: int


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A past query and what each model did on it, averaged by count over all sources.

    Attributes:
        id: its number in the database, never reused for another query.
        query: the text, cut to MAX_QUERY_CHARACTERS.
        embedding: (d,), of length 1.
        outcomes: of each model; `count` is the number of scores, or of answers if none is scored.
        input_tokens: of the latest prompt with this query whose length is known.
        revision: number of the transaction that changed it last; the outcomes may be newer.
    """

    id: int
    query: str
    embedding: Floats32
    outcomes: dict[str, Outcome]
    input_tokens: float | None = None
    revision: int = 0


def stored_text(query: str) -> str:
    """The query as it is stored: cut, and without characters that databases refuse."""
    text = query[:MAX_QUERY_CHARACTERS].replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text.encode("utf-8", "replace").decode("utf-8")


def key_of(query: str) -> bytes:
    """The key of a query: the SHA-256 of its stored text."""
    return hashlib.sha256(stored_text(query).encode("utf-8")).digest()

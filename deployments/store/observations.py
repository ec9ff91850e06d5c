"""What the database of past queries is told, and what it gives back."""

import hashlib
import math
from dataclasses import dataclass

from deployments.store.evidence import Floats32

MAX_QUERY_CHARACTERS = 20_000  # a longer query is cut before it is stored, and before it is keyed


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one model did on one query; None is not known, `count` answers are averaged."""

    quality: float | None
    output_tokens: float | None
    count: int = 1


@dataclass(frozen=True, slots=True)
class Observation:
    """What one model did on one query, `count` answers taken together; None is not known.

    Attributes:
        query: the text that was embedded; cut here to what is stored of it, for it may be long.
        embedding: (d,), of length 1; of no use where the database holds the query already.
        model: its name.
        source: who says so: "answers", or "import:<name>".
        quality: mean, 0 to 1.
        output_tokens: mean.
        seconds: mean time an answer took.
        count: number of answers.
        input_tokens: tokens of the whole prompt, of which the query may be a part.
        characters: of the whole prompt.
        replace: takes the place of what this source said of this model on this query before,
            instead of adding to it.
        identity: which model was behind the name, as of `ModelConfig.identity`; "" is not said.
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "query", stored_text(self.query))
        for name in ("quality", "output_tokens", "seconds", "input_tokens", "characters"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a number, 0 or more, not {value!r}")
        if self.quality is not None and self.quality > 1:
            raise ValueError(f"quality must be between 0 and 1, not {self.quality!r}")
        if self.count < 1:
            raise ValueError(f"count must be at least 1, not {self.count!r}")


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """A completion that feedback may come for.

    Attributes:
        id: of the completion.
        model: that wrote it.
        predicted: the quality predicted when its model was chosen.
        policy: name of the policy that chose it.
        cost: USD.
        identity: which model was behind the name, as of `ModelConfig.identity`; "" is not said.
    """

    id: str
    model: str
    predicted: float | None = None
    policy: str | None = None
    cost: float | None = None
    identity: str = ""


@dataclass(frozen=True, slots=True)
class Scored:
    """An answer that was scored; `replaced` is the score that it had before."""

    model: str
    predicted: float | None
    policy: str | None
    replaced: float | None


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A past query and what is known of each model on it, all sources averaged by count.

    Attributes:
        id: its number in the database; never used again for another query.
        query: the text, cut to MAX_QUERY_CHARACTERS.
        embedding: (d,), of length 1.
        outcomes: of each model; `count` is the number of scores, or of answers if none is scored.
        input_tokens: of the latest prompt with this query whose length is known.
        revision: number of the transaction that changed it last; what is known is no older.
    """

    id: int
    query: str
    embedding: Floats32
    outcomes: dict[str, Outcome]
    input_tokens: float | None = None
    revision: int = 0


def stored_text(query: str) -> str:
    """The query as it is stored: cut, and without what no database takes as text."""
    text = query[:MAX_QUERY_CHARACTERS].replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text.encode("utf-8", "replace").decode("utf-8")


def key_of(query: str) -> bytes:
    """What tells queries apart: SHA-256 of the text as it is stored."""
    return hashlib.sha256(stored_text(query).encode("utf-8")).digest()

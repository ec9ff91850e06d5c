"""`llms.router.scoring`: scores that answers get without anybody's feedback."""

from collections.abc import Collection
from typing import Annotated

from pydantic import Field, model_validator

from serve.config.section import Section

QUERY, ANSWER = "{query}", "{answer}"


class ScoringConfig(Section):
    """Which answers are scored by themselves, and by what."""

    judge: str | None = None
    """The model of `llms.models` that rates answers; it gets the callers' texts. Without one, only
    JSON and tool calls are checked."""
    share: Annotated[float, Field(ge=0, le=1)] = 0.02
    """The share of answers that are scored."""
    prompt: str | None = None
    """What the judge is asked, with `{query}` and `{answer}` for the conversation and the answer.
    Its reply must end with `Score: N`, from 0 to 10. The documentation shows the default."""

    @model_validator(mode="after")
    def _prompt_is_for_a_judge(self) -> "ScoringConfig":
        if self.prompt is None:
            return self
        if self.judge is None:
            raise ValueError("`prompt` has no effect without `judge`, the model that is asked")
        if missing := [name for name in (QUERY, ANSWER) if name not in self.prompt]:
            raise ValueError(f"`prompt` lacks {' and '.join(missing)}, which the judge must see")
        return self

    def check(self, models: Collection[str], *, has_store: bool) -> None:
        """Checks what the rest of the configuration must have.

        Args:
            models: those that answer.
            has_store: whether past queries are kept.

        Raises:
            ValueError: the judge is none of the models, or there is no store for its scores.
        """
        if self.judge is not None and self.judge not in models:
            raise ValueError(
                f"router.scoring.judge '{self.judge}' must be a model in `llms.models` that answers"
            )
        if not has_store:
            raise ValueError(
                "router.scoring needs a store for its scores; add `llms.store`, or leave "
                "`router.scoring` out"
            )

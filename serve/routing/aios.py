"""Smart routing without a server: the cheapest models that together hold a mean quality.

Source: https://docs.aios.foundation/aios-docs/aios-kernel/llm-cores/llm-routing
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from deployments.embedding.encoder import Encoder
from deployments.store.evidence import Floats32, Snapshot
from deployments.store.files.history import History, read_history
from deployments.store.memory.snapshots import SnapshotEvidence, snapshot_of
from serve.routing.arrays import Booleans, Floats
from serve.routing.forecast.forecaster import Forecaster
from serve.routing.forecast.predictor import Prediction
from serve.routing.llm_configs import LLM, index_of, name_of
from serve.routing.optimise.problem import Assignment, check_requirement
from serve.routing.prices import price_of

logger = logging.getLogger(__name__)

Embed = Callable[[Sequence[str]], Floats32]


class SmartRouting:
    """Chooses a model for each query of a batch, at the least cost that holds a mean quality.

    Without history, qualities are guessed from prices (or a config's `prior_quality`); with it,
    they are predicted from past queries. Models in the history that aren't configured are ignored.

    Args:
        llm_configs: the models, each with a "name" and, unless LiteLLM lists its price,
            "cost_per_input_token" and "cost_per_output_token" in USD.
        performance_requirement: mean quality to hold, 0 to 1.
        n_similar: the fewest past queries to predict from; as history grows, more are looked at.
        history: what models did on past queries: a .json, .jsonl or .parquet file, or rows.
        embed: texts to embeddings (n, d) of length 1; all-MiniLM-L6-v2 where None.

    Attributes:
        history: the past queries, those of the same text as one.
        forecaster: predicts from them.

    Raises:
        ValueError: no models, a name missing or doubled, a model without a price, a requirement
            outside 0 to 1, a row of history that can't be used, or no known model in all of it.
    """

    def __init__(
        self,
        llm_configs: Sequence[Mapping[str, Any]],
        performance_requirement: float = 0.7,
        n_similar: int = 16,
        *,
        history: History | None = None,
        embed: Embed | None = None,
    ) -> None:
        self._index = index_of(llm_configs)
        self.performance_requirement = performance_requirement
        prices = [price_of(config) for config in llm_configs]
        self._embed = embed or Encoder()
        self.history = self._read(history)
        priors = [_prior(config) for config in llm_configs]
        self.forecaster = Forecaster(SnapshotEvidence(self.history), prices, priors, n_similar)
        if len(self.history):
            fitted = self.forecaster.refit(self.history)
            self.forecaster = self.forecaster.updated(fitted=fitted)

    @property
    def performance_requirement(self) -> float:
        """Mean quality to hold; may be set between calls."""
        return self._requirement

    @performance_requirement.setter
    def performance_requirement(self, requirement: float) -> None:
        check_requirement(requirement)
        self._requirement = float(requirement)

    def get_model_idxs(
        self,
        selected_llms: Sequence[LLM] | Sequence[Sequence[LLM]],
        queries: Sequence[str],
        input_token_lengths: Sequence[float],
    ) -> list[int]:
        """Indices into `llm_configs` of the model chosen for each query; see `route`."""
        return [int(i) for i in self.route(selected_llms, queries, input_token_lengths).choice]

    def route(
        self,
        selected_llms: Sequence[LLM] | Sequence[Sequence[LLM]],
        queries: Sequence[str],
        input_token_lengths: Sequence[float],
    ) -> Assignment:
        """Optimises a batch.

        Args:
            selected_llms: the candidates, names or mappings with a "name"; one list for all
                queries, or one list for each.
            queries: texts.
            input_token_lengths: tokens of each query's prompt.

        Returns:
            The assignment; its `choice` are indices into `llm_configs`, and its `quality` is what
            predictions say less what they were too high by on past queries.

        Raises:
            ValueError: lists of different lengths, an empty query, no or unknown candidates, a
                price other than the config's, or an impossible length.
        """
        allowed = self._allowed(selected_llms, len(queries))
        prediction, cost = self.forecast(queries, input_token_lengths)
        return self.forecaster.assign(prediction, cost, self._requirement, allowed)

    def forecast(
        self, queries: Sequence[str], input_token_lengths: Sequence[float]
    ) -> tuple[Prediction, Floats]:
        """Predictions for all models, and their costs in USD (n, m).

        Args:
            queries: texts.
            input_token_lengths: tokens of each query's prompt.

        Raises:
            ValueError: lists of different lengths, an empty query, or an impossible length.
        """
        if len(queries) != len(input_token_lengths):
            raise ValueError(
                f"{len(queries)} queries, but {len(input_token_lengths)} input_token_lengths"
            )
        tokens = np.array(input_token_lengths, dtype=np.float64)
        if not ((tokens >= 0) & np.isfinite(tokens)).all():
            raise ValueError("every input token length must be a number, 0 or more")
        prediction = self._predict(queries)
        return prediction, self.forecaster.costs(tokens, prediction)

    def predict(
        self, queries: Sequence[str], models: Sequence[LLM] | None = None
    ) -> tuple[Floats, Floats]:
        """Predicted quality (0 to 1) and answer length in tokens, each (n queries, m models).

        Args:
            queries: texts.
            models: names, or mappings with a "name"; all models where None.

        Raises:
            ValueError: an empty query or an unknown model.
        """
        columns = self._columns(models) if models is not None else list(self._index.values())
        prediction = self._predict(queries)
        return prediction.quality[:, columns], prediction.output_tokens[:, columns]

    def _predict(self, queries: Sequence[str]) -> Prediction:
        if isinstance(queries, str):
            raise ValueError("queries must be a list of texts, not one text")
        for number, query in enumerate(queries):
            if not isinstance(query, str) or not query.strip():
                raise ValueError(f"query {number} is empty")
        return self.forecaster.predict(queries, self._embeddings(queries))

    def _embeddings(self, queries: Sequence[str]) -> Floats32:
        """Of the queries; empty while there are no past queries to compare them with."""
        if not len(self.forecaster.evidence):
            return np.zeros((len(queries), 0), np.float32)
        return self._embed(queries)

    def _read(self, history: History | None) -> Snapshot:
        models = list(self._index)
        snapshot, unknown = snapshot_of(
            read_history(history if history is not None else ()), models
        )
        if unknown and not len(snapshot):
            raise ValueError(f"the history has none of the models {models}, only {sorted(unknown)}")
        if unknown:
            logger.warning("ignoring the history of models that are not configured: %s", unknown)
        if not len(snapshot):
            return snapshot
        return replace(snapshot, embeddings=self._embed(snapshot.queries))

    def _allowed(self, selected: Sequence[LLM] | Sequence[Sequence[LLM]], queries: int) -> Booleans:
        """(n, m) whether a model may answer a query."""
        if isinstance(selected, str) or not len(selected):
            raise ValueError("selected_llms: select at least one model")
        nested = not isinstance(selected[0], str | Mapping)
        if nested and len(selected) != queries:
            raise ValueError(f"{queries} queries, but {len(selected)} lists of selected_llms")
        allowed = np.zeros((queries, len(self._index)), np.bool_)
        if not nested:
            allowed[:, self._columns(selected)] = True  # type: ignore[arg-type]
            return allowed
        for row, llms in enumerate(selected):
            allowed[row, self._columns(llms)] = True  # type: ignore[arg-type]
        return allowed

    def _columns(self, llms: Sequence[LLM]) -> list[int]:
        if isinstance(llms, str | Mapping) or not len(llms):
            raise ValueError("selected_llms: select at least one model")
        return [self._column(llm) for llm in llms]

    def _column(self, llm: LLM) -> int:
        name = name_of(llm)
        if name not in self._index:
            known = ", ".join(self._index)
            raise ValueError(f"no model is called '{name}'; there are: {known}")
        column = self._index[name]
        if not isinstance(llm, str):
            price = self.forecaster.prices[column]
            for key, ours in (
                ("cost_per_input_token", price.input),
                ("cost_per_output_token", price.output),
            ):
                if llm.get(key) not in (None, ours):
                    raise ValueError(
                        f"model '{name}' has two prices: {key} is {ours} in llm_configs and "
                        f"{llm[key]} where it is selected"
                    )
        return column


def _prior(config: Mapping[str, Any]) -> float:
    """A config's own `prior_quality`, NaN where it has none."""
    own = config.get("prior_quality")
    return float("nan") if own is None else float(own)

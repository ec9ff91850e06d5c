"""Promise: a good model that began badly is asked again, but only where that teaches something."""

import numpy as np
import pytest
from deciders import HARD, MODELS, PRICES, decide, question

from deployments.store.evidence import Snapshot
from deployments.store.memory.snapshots import SnapshotEvidence
from serve.routing.decider import Decider
from serve.routing.optimise.exploring import Explorer
from serve.routing.strategy import Ranking


class Learned:
    """A decider that has learned what it was told of models on hard queries."""

    def __init__(self, outcomes: dict[str, list[float]]) -> None:
        self._outcomes = {model: list(scores) for model, scores in outcomes.items()}
        self.decider = Decider(self._evidence(), PRICES)
        self.asked: list[Ranking] = []

    def ask(self, chance: dict[str, float], random: np.random.Generator) -> None:
        """A hard question, whose answer is scored."""
        wanted = question(hard=True, requirement=0.8)
        ranking = decide(self.decider, wanted)
        score = float(random.random() < chance[ranking.models[0]])
        self._outcomes[ranking.models[0]].append(score)
        self.correct(ranking, score)
        self.decider.use(self.decider.forecaster(evidence=self._evidence()))
        self.asked.append(ranking)

    def correct(self, ranking: Ranking, score: float) -> None:
        """Has the policy learn from a score, as the store's does before routers hear of it."""
        assert ranking.policy
        held = self.decider.policies._held[ranking.policy]
        held.policy = held.policy.correct(ranking.quality[ranking.models[0]], score)

    def _evidence(self) -> SnapshotEvidence:
        rows = max(map(len, self._outcomes.values()))
        quality = np.full((rows, 3), np.nan, np.float32)
        for column, model in enumerate(MODELS):
            quality[: len(self._outcomes[model]), column] = self._outcomes[model]
        known = ~np.isnan(quality)
        tokens = np.where(known, np.float32(100), np.float32(np.nan))
        return SnapshotEvidence(
            Snapshot(
                [f"hard {row}" for row in range(rows)],
                np.tile(HARD, (rows, 1)),
                quality,
                tokens,
                known.astype(np.float32),
            )
        )


@pytest.mark.parametrize("share", [0.0, 0.05])
def test_a_good_model_that_began_with_six_zeros_is_asked_again(share: float) -> None:
    learned = Learned({"small": [0.0] * 40, "middle": [0.0] * 6, "large": [1.0] * 36 + [0.0] * 4})
    random = np.random.default_rng(0)
    learned.decider.explorer = Explorer(share, random.random)
    for _ in range(400):
        learned.ask({"small": 0.02, "middle": 0.95, "large": 0.9}, random)
    late = [ranking.models[0] for ranking in learned.asked[-100:]]
    explored = [ranking for ranking in learned.asked if ranking.explores]
    if not share:
        assert (late.count("middle"), explored) == (0, [])
        return
    assert late.count("middle") > 60
    assert explored
    for ranking in explored:
        assert (ranking.models[0], ranking.propensity) == ("middle", 0.1)
        assert ranking.reason.startswith("asked to learn how good it is; ")


@pytest.mark.parametrize(("asleep", "scored"), [(["middle"], True), ([], False)])
def test_nothing_is_explored_that_sleeps_or_where_nobody_scores(
    asleep: list[str], scored: bool
) -> None:
    learned = Learned({"small": [0.0] * 400, "middle": [0.0] * 6, "large": [1.0] * 400})
    learned.decider.explorer = Explorer(1.0, lambda: 0.0)
    wanted = question(hard=True, requirement=0.8, asleep=asleep)
    for _ in range(50):
        if scored:
            learned.correct(decide(learned.decider, wanted), 0.9)
        assert not decide(learned.decider, wanted).explores

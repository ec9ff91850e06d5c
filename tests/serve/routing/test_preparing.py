"""Promise: a policy is prepared once, beside requests, and callers hold up only themselves."""

from dataclasses import replace

from deciders import EASY, HARD, MODELS, decide, known, prepare, question, warm

from serve.routing.policies import policy_name


def test_a_request_whose_policy_has_not_begun_holds_the_requirement_by_itself() -> None:
    decider, asked = warm(), question(requirement=0.6)
    blind = [decider.decide(asked, HARD) for _ in range(20)]
    assert {ranking.models[0] for ranking in blind} == {"large"}
    assert {ranking.policy for ranking in blind} == {policy_name(0.6, MODELS)}
    assert len(decider.policies) == 0
    assert not decider.ready_for(asked)
    prepare(decider, asked)
    assert decider.ready_for(asked)
    assert decider.decide(asked, HARD).models[0] == "small"  # as easy queries make up for it


def test_a_policy_is_prepared_once_for_all_that_wait_for_it() -> None:
    decider = warm()
    name = decider.claim(question())
    assert name is not None
    assert decider.claim(question(owner="caller")) is None
    decider.release(name)  # it failed
    assert decider.claim(question()) == name
    decider.begin(question(), decider.new_policy(name))
    decider.release(name)
    assert decider.claim(question()) is None


def test_preparations_that_wait_are_bounded_and_callers_hold_up_only_themselves() -> None:
    decider = warm()

    def claimed(owner: str | None, number: int) -> int:
        asked = [question(requirement=i / 100, owner=owner) for i in range(number)]
        return sum(decider.claim(one) is not None for one in asked)

    assert claimed("greedy", 50) == 2
    others = [
        decider.claim(question(requirement=0.5 + index / 100, owner=f"caller {index}"))
        for index in range(40)
    ]
    assert sum(name is not None for name in others) == 6
    assert decider.claim(question(requirement=0.99)) is not None
    assert claimed(None, 50) == 7


def test_a_floor_needs_no_preparation() -> None:
    assert warm().claim(question(floor=True)) is None


def test_callers_policies_push_out_none_that_the_server_is_configured_with() -> None:
    decider = warm()
    name = str(decide(decider, question()).policy)
    for number in range(60):
        decide(decider, question(requirement=number / 100, owner="caller"))
    assert name in decider.policies
    assert len(decider.policies) < 20


def test_a_policy_keeps_its_multiplier_after_a_refit() -> None:
    decider = warm()
    for _ in range(50):
        name = str(decide(decider, question(hard=True)).policy)
    before = decider.policies[name]
    decider.use(decider.forecaster(fitted=decider.refit(known(300))))
    assert not decider.ready_for(question())
    prepare(decider, question())
    after = decider.policies[name]
    assert after.optimism != before.optimism
    assert after == replace(before, optimism=after.optimism)


def test_an_outdated_policy_decides_until_it_is_prepared_anew() -> None:
    decider = warm()
    name = str(decide(decider, question()).policy)
    decider.use(decider.forecaster(fitted=decider.refit(known(300))))
    before = decider.policies[name]
    decider.decide(question(), EASY)
    assert decider.policies[name].decisions == before.decisions + 1

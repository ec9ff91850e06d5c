"""Promise: scores belong to the model that earned them, not to its name."""

from observed import D, answered, outcomes, seen

from deployments.store.observations import AnswerRecord, MeanLength, Outcome
from deployments.store.sql.database import Database


def known_of(url: str, **identities: str) -> dict[str, dict[str, Outcome]]:
    """What a server of these models reads."""
    database = Database(url, "encoder", D, identities=identities)
    database.adopt()
    found = outcomes(database)
    database.close()
    return {query: models for query, models in found.items() if models}


def test_a_model_does_not_inherit_the_scores_of_its_predecessor_in_name(store_url: str) -> None:
    database = Database(store_url, "encoder", D, identities={"small": "openai/old"})
    old = seen(quality=1, output_tokens=10, identity="openai/old")
    database.write([(old, AnswerRecord("x", "small", identity="openai/old"))])
    new = seen(quality=0, output_tokens=30, identity="openai/new")
    database.write([(new, AnswerRecord("y", "small", identity="openai/new"))])
    database.close()
    assert known_of(store_url, small="openai/new") == {"Why?": {"small": Outcome(0, 30, 1)}}
    assert known_of(store_url, small="openai/third") == {}
    # Going back to the old model brings back its scores, including those that came late.
    database = Database(store_url, "encoder", D)
    database.score([("x", 0.5)])
    database.close()
    assert known_of(store_url, small="openai/old") == {"Why?": {"small": Outcome(0.5, 10, 1)}}
    assert known_of(store_url, small="openai/new") == {"Why?": {"small": Outcome(0, 30, 1)}}


def test_a_model_does_not_inherit_the_lengths_of_its_predecessor_in_name(store_url: str) -> None:
    def lengths(identity: str) -> list[MeanLength]:
        database = Database(store_url, "encoder", D, identities={"small": identity})
        database.adopt()
        found = database.lengths()
        database.close()
        return found

    database = Database(store_url, "encoder", D)
    database.write([seen(output_tokens=70, identity="openai/old", shape="json")])
    database.close()
    assert lengths("openai/new") == []
    assert lengths("openai/old") == [MeanLength("small", "json", 70, 1)]


def test_what_a_model_said_last_is_kept_whatever_comes_after(store_url: str) -> None:
    database = Database(store_url, "encoder", D)
    database.write([seen(source="import:a", said=2**63 - 1)])
    database.write([(seen(quality=1, source="import:a"), AnswerRecord("x", "small"))])
    database.score([("x", 0.0)])
    database.close()
    assert known_of(store_url, small="first")["Why?"]["small"].said == 2**63 - 1
    database = Database(store_url, "encoder", D)
    database.write([seen(source="import:a", said=5, identity="first")])
    database.close()
    assert known_of(store_url, small="first")["Why?"]["small"].said == 5


def test_outcomes_without_an_identity_go_to_the_first_model_served(store_url: str) -> None:
    database = Database(store_url, "encoder", D)
    database.write([seen(quality=1, source="import:a"), answered("x", "How?")])
    database.write([seen(model="other", quality=1)])
    database.close()
    known = {"small": Outcome(1, None, 1), "other": Outcome(1, None, 1)}
    assert known_of(store_url, small="first") == {
        "Why?": known,
        "How?": {"small": Outcome(None, 10, 1)},
    }
    assert known_of(store_url, small="second") == {"Why?": {"other": known["other"]}}
    # The same holds for a score that comes only now.
    database = Database(store_url, "encoder", D)
    database.score([("x", 1.0)])
    database.close()
    assert known_of(store_url, small="second").keys() == {"Why?"}
    assert known_of(store_url, small="first")["How?"]["small"] == Outcome(1, 10, 1)


def test_a_repeated_import_also_replaces_what_has_been_adopted(store_url: str) -> None:
    database = Database(store_url, "encoder", D)
    whole = [
        seen(quality=1, source="import:a", replace=True),
        seen(quality=0, source="import:a", count=3),
    ]
    for _ in range(2):
        database.write(whole)
        assert outcomes(database)["Why?"]["small"] == Outcome(0.25, None, 4)
        assert known_of(store_url, small="first")["Why?"]["small"] == Outcome(0.25, None, 4)
    # The second half of an import is added to the first, even if that has been adopted meanwhile.
    database.write(whole[:1])
    known_of(store_url, small="first")
    database.write(whole[1:])
    assert known_of(store_url, small="first")["Why?"]["small"] == Outcome(0.25, None, 4)
    database.close()

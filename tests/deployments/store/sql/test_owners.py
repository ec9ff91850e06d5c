"""Promise: an answer is scored by the key that it was for, and each key's scores are counted."""

from observed import answered

from deployments.store.observations import AnswerRecord
from deployments.store.sql.database import Database


def test_an_answer_may_be_scored_by_its_own_key_alone(database: Database) -> None:
    database.write([answered("x", key="team"), AnswerRecord("alone", "small", key="team")])
    may_score = database.owners.may_score
    assert may_score("x", "team")
    assert may_score("alone", "team")
    assert not may_score("x", "other")
    assert not may_score("x", None)


def test_an_answer_without_a_key_may_be_scored_by_everybody(database: Database) -> None:
    database.write([answered("x")])
    assert database.owners.may_score("x", None)
    assert database.owners.may_score("x", "team")


def test_what_is_no_answer_may_be_scored_by_nobody(database: Database) -> None:
    for id in ("unknown", "\0", "\ud800"):
        assert not database.owners.may_score(id, None)


def test_the_scores_of_each_key_are_counted(database: Database) -> None:
    keys = {"a": "team", "b": "team", "c": None, "d": "silent"}
    database.write([answered(id, key=key) for id, key in keys.items()])
    assert database.owners.scores() == {}
    database.score([("a", 1.0), ("b", 0.0), ("c", 1.0)])
    database.score([("a", 0.5)])
    assert database.owners.scores() == {"team": 2, None: 1}


def test_a_score_that_an_answer_gets_by_itself_is_no_keys(database: Database) -> None:
    database.write([answered(id, key="team") for id in "abc"])
    database.score([("a", 1.0)])
    database.score([("a", 0.0), ("b", 1.0), ("c", 1.0)], replace=False)
    assert database.owners.scores() == {"team": 1}
    database.score([("b", 0.5)])
    assert database.owners.scores() == {"team": 2}

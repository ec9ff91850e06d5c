"""Promise: the database keeps exactly what it was told, in SQLite and in PostgreSQL alike, and says
clearly what it can't do."""

import math
import sqlite3
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy
from sqlalchemy import make_url

from deployments.store import retention
from deployments.store.errors import DatabaseUnavailable, EmbeddingModelChanged
from deployments.store.observations import (
    MAX_QUERY_CHARACTERS,
    AnswerRecord,
    Observation,
    Outcome,
    Scored,
    key_of,
)
from deployments.store.retention import Retention
from deployments.store.sql import changes
from deployments.store.sql.database import Database
from deployments.store.sql.urls import default_url

D = 8


def vector(text):
    """An embedding that is the text's own."""
    seed = int.from_bytes(key_of(text)[:4], "big")
    numbers = np.random.default_rng(seed).standard_normal(D)
    return (numbers / np.linalg.norm(numbers)).astype(np.float32)


def seen(query="Why?", model="small", source="answers", **known):
    return Observation(query, vector(query), model, source, **known)


def answered(id, query="Why?", model="small", **known):
    return seen(query, model, output_tokens=10), AnswerRecord(id, model, **known)


@pytest.fixture
def database(store_url):
    database = Database(store_url, "encoder", D)
    yield database
    database.close()


@pytest.fixture
def memory():
    database = Database("sqlite://", "encoder", D)
    yield database
    database.close()


def retained(database, most=None, days=None, answer_hours=48):
    database.retention = Retention(most, days, answer_hours)
    return database.retain()


def outcomes(database):
    return {row.query: row.outcomes for batch in database.rows() for row in batch}


def test_what_was_written_is_read_again_also_by_another(database, store_url):
    (id,) = database.write(
        [seen(quality=0.5, output_tokens=20, seconds=1.5, input_tokens=9, characters=40)]
    )
    database.close()
    again = Database(store_url, "encoder", D)
    (row,) = again.read([id])
    again.close()
    assert (row.id, row.query, row.input_tokens) == (id, "Why?", 9)
    assert row.outcomes == {"small": Outcome(0.5, 20, 1)}
    np.testing.assert_allclose(row.embedding, vector("Why?"), atol=1e-3)
    assert np.linalg.norm(row.embedding) == pytest.approx(1, abs=1e-6)


def test_observations_of_one_query_are_averaged_by_count_over_all_sources(database):
    first = database.write([seen(quality=1, output_tokens=10), seen(quality=0, output_tokens=20)])
    more = [
        seen(source="import:a", quality=0.75, output_tokens=40, count=2),
        seen(source="import:a", output_tokens=70),
        seen(model="large", seconds=3),
    ]
    assert database.write(more) == first
    assert database.count() == 1
    (row,) = database.read(first)
    assert row.outcomes["small"] == Outcome((1 + 0 + 2 * 0.75) / 4, (10 + 20 + 80 + 70) / 5, 4)
    assert row.outcomes["large"] == Outcome(None, None, 1)


def test_replacing_forgets_what_the_same_source_said_and_nothing_else(database):
    database.write([seen(source="import:a", quality=0, count=5), seen(quality=1)])
    database.write(
        [
            seen(source="import:a", quality=0.5, replace=True),
            seen(source="import:a", quality=1),
        ]
    )
    assert outcomes(database)["Why?"]["small"] == Outcome(pytest.approx(2.5 / 3), None, 3)


def test_ids_are_in_the_order_of_first_mention_each_once(database):
    a, b = database.write([seen("a"), seen("b"), seen("a")])
    assert [row.query for row in database.read([a, b])] == ["a", "b"]
    assert database.write([seen("b"), seen("c"), seen("a")])[::2] == [b, a]


def test_feedback_scores_an_answer_and_a_second_score_replaces_the_first(database):
    (id,) = database.write(
        [answered("x", predicted=0.7, policy="p", cost=0.01), answered("y"), answered("z")]
    )
    assert database.score([("x", 1.0), ("nobody's", 0.5)]) == [
        (id, Scored("small", 0.7, "p", None)),
        None,
    ]
    assert database.score([("x", 0.25), ("y", 0.5), ("y", 0.75)]) == [
        (id, Scored("small", 0.7, "p", 1.0)),
        (id, Scored("small", None, None, None)),
        (id, Scored("small", None, None, 0.5)),
    ]
    assert outcomes(database)["Why?"]["small"] == Outcome(0.5, 10, 2)


def test_feedback_replaces_the_quality_that_came_with_the_answer(database):
    database.write([(seen(quality=0.0), AnswerRecord("x", "small")), seen(quality=1.0)])
    assert database.score([("x", 1.0)])[0][1].replaced == 0.0
    assert outcomes(database)["Why?"]["small"] == Outcome(1.0, None, 2)


def test_a_query_keeps_the_embedding_and_the_last_known_length_of_its_prompt(database):
    database.write([seen(input_tokens=10, characters=30), seen("How?")])
    database.write([seen(input_tokens=20, characters=90), seen()])
    assert [row.input_tokens for batch in database.rows() for row in batch] == [20, None]
    assert database.tokens_per_character() == pytest.approx(20 / 90)
    why, what = database.embeddings(["Why?", "What?"])
    np.testing.assert_allclose(why, vector("Why?"), atol=1e-3)
    assert what is None


def known_of(url, **identities):
    """What a server of these models finds."""
    database = Database(url, "encoder", D, identities=identities)
    database.adopt()
    found = outcomes(database)
    database.close()
    return {query: models for query, models in found.items() if models}


def test_a_model_that_takes_anothers_name_does_not_inherit_its_scores(store_url):
    database = Database(store_url, "encoder", D, identities={"small": "openai/old"})
    old = seen(quality=1, output_tokens=10, identity="openai/old")
    database.write([(old, AnswerRecord("x", "small", identity="openai/old"))])
    new = seen(quality=0, output_tokens=30, identity="openai/new")
    database.write([(new, AnswerRecord("y", "small", identity="openai/new"))])
    database.close()
    assert known_of(store_url, small="openai/new") == {"Why?": {"small": Outcome(0, 30, 1)}}
    assert known_of(store_url, small="openai/third") == {}
    # Who goes back to the old one finds its scores again, and those that came late are its own.
    database = Database(store_url, "encoder", D)
    database.score([("x", 0.5)])
    database.close()
    assert known_of(store_url, small="openai/old") == {"Why?": {"small": Outcome(0.5, 10, 1)}}
    assert known_of(store_url, small="openai/new") == {"Why?": {"small": Outcome(0, 30, 1)}}


def test_what_does_not_say_its_model_is_of_the_first_that_is_served(store_url):
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
    # Also a score that comes only now.
    database = Database(store_url, "encoder", D)
    database.score([("x", 1.0)])
    database.close()
    assert known_of(store_url, small="second").keys() == {"Why?"}
    assert known_of(store_url, small="first")["How?"]["small"] == Outcome(1, 10, 1)


def test_an_import_that_is_repeated_replaces_also_what_is_of_a_model_by_now(store_url):
    database = Database(store_url, "encoder", D)
    whole = [
        seen(quality=1, source="import:a", replace=True),
        seen(quality=0, source="import:a", count=3),
    ]
    for _ in range(2):
        database.write(whole)
        assert outcomes(database)["Why?"]["small"] == Outcome(0.25, None, 4)
        assert known_of(store_url, small="first")["Why?"]["small"] == Outcome(0.25, None, 4)
    # Its second half, that comes when its first one has been taken, is added to that.
    database.write(whole[:1])
    known_of(store_url, small="first")
    database.write(whole[1:])
    assert known_of(store_url, small="first")["Why?"]["small"] == Outcome(0.25, None, 4)
    database.close()


def test_an_empty_database(database):
    assert list(database.rows()) == database.read([1]) == database.write([]) == []
    assert database.score([]) == database.changed_by_others(0) == database.retain() == []
    assert database.count() == 0
    assert database.tokens_per_character() is None
    assert database.stats()["models"] == {}


def test_more_than_one_statement_takes(database):
    queries = [f"query {number}" for number in range(3000)]
    ids = database.write([seen(query, quality=1, output_tokens=5) for query in queries])
    batches = list(database.rows())
    assert len(batches) > 1
    assert [row.id for batch in batches for row in batch] == sorted(ids)
    assert {row.query for row in database.read(ids)} == set(queries)
    assert all(vector is not None for vector in database.embeddings(queries))
    answers = [answered(f"id {number}", "one") for number in range(1500)]
    database.write(answers)
    assert all(database.score([(answer.id, 1.0) for _, answer in answers]))
    assert len(retained(database, 0)) == 3001
    assert database.count() == 0


def test_any_text_is_a_query(database):
    texts = ["日本語 🙂 " * 5, "nul \0 in it", "half \ud83d a character", "'; DROP TABLE queries"]
    ids = database.write([seen(text, quality=1) for text in texts])
    assert database.write([seen(text, quality=0) for text in texts]) == ids
    assert [row.outcomes["small"].count for row in database.read(ids)] == [2] * 4
    assert {row.query for row in database.read(ids)} >= {texts[0], texts[3]}


def test_numbers_may_be_of_numpy(database):
    half, ten, two = np.float32(0.5), np.float32(10), np.int64(2)
    known = {"quality": half, "output_tokens": ten, "seconds": ten, "input_tokens": two}
    database.write([seen(count=two, characters=two, **known)])
    database.write(
        [(seen("b", characters=two, **known), AnswerRecord("x", "small", half, "p", half))]
    )
    assert database.score([("x", half)]) == [(2, Scored("small", 0.5, "p", 0.5))]
    assert outcomes(database)["Why?"]["small"] == Outcome(0.5, 10, 2)
    assert database.stats()["models"]["small"]["seconds"] == 10
    assert database.tokens_per_character() == 1


@pytest.mark.parametrize("id", ["", "nul \0", "half \ud83d", "x" * 10**6, "'; DROP TABLE answers"])
def test_feedback_for_an_id_that_no_answer_can_have(database, id):
    database.write([answered("x")])
    assert database.score([(id, 1.0), ("x", 1.0)])[0] is None


def test_a_long_query_is_cut_and_known_by_what_is_left(memory):
    long = "word " * 100_000
    assert len(seen(long).query) == MAX_QUERY_CHARACTERS  # also while it waits to be written
    assert memory.write([seen(long)]) == memory.write([seen(long + "and more")])
    assert len(memory.read([1])[0].query) == MAX_QUERY_CHARACTERS


def test_state_is_kept_between_runs(database, store_url):
    assert database.state.get("policies") is None
    for value in ({"0.7": 1.5, "ü": [None, True]}, [1]):
        database.state.set("policies", value)
        again = Database(store_url, "encoder", D)
        assert again.state.get("policies") == value
        again.close()
    with pytest.raises(ValueError, match="JSON"):
        database.state.set("policies", math.nan)
    with pytest.raises(ValueError, match="own"):
        database.state.set("store", {})


def test_the_longest_untouched_go_first(database):
    ids = database.write([seen(str(number)) for number in range(5)])
    database.write([answered("x", "0")])
    database.score([("x", 1.0)])
    (one,) = database.write([seen("1")])
    assert sorted(retained(database, 2)) == sorted(ids[2:])
    assert {row.id for row in database.read(ids)} == {ids[0], one}
    assert retained(database, 2, 1000) == []
    assert sorted(retained(database, None, 0)) == sorted(ids[:2])
    assert database.score([("x", 1.0)])[0][0] is None
    assert database.write([seen("new")])[0] not in ids


def test_queries_without_a_score_go_before_older_ones_with_one(database):
    scored = database.write([seen("scored", quality=1.0)])
    unscored = database.write([seen(str(number), quality=None) for number in range(4)])
    assert sorted(retained(database, 2)) == sorted(unscored[:3])
    assert retained(database, 1) == unscored[3:]
    assert [row.id for row in database.read(scored)] == scored


def test_no_more_than_the_bound_is_kept_at_any_time(database):
    database.retention = Retention(most_queries=10)
    for start in range(0, 2000, 50):
        database.write([answered(f"{n}", f"query {n}") for n in range(start, start + 50)])
        assert database.count() == len(database.ids()) == 10
    assert outcomes(database).keys() == {f"query {n}" for n in range(1990, 2000)}
    assert database.stats()["answers"] == 2000  # which are small


def test_queries_with_a_score_stay_and_leave_room_for_new_ones(database):
    database.retention = Retention(most_queries=20)
    scored = database.write([seen(f"scored {n}", quality=1.0) for n in range(30)])
    assert database.ids() == set(scored[10:])
    for n in range(30):
        database.write([answered(f"{n}", f"new {n}")])
        assert database.count() <= 20
    # A tenth is for those whose score may still come, and its scores are taken.
    assert outcomes(database).keys() == {f"scored {n}" for n in range(12, 30)} | {
        "new 28",
        "new 29",
    }
    database.score([("28", 1.0)])
    database.write([answered("30", "new 30"), answered("31", "new 31")])
    assert "new 28" in outcomes(database)
    assert database.count() == 20


def test_feedback_for_an_answer_whose_query_is_gone_still_tells_of_its_policy(database):
    database.retention = Retention(most_queries=10)
    database.write([answered("x", "first", predicted=0.7, policy="p")])
    database.write([seen(f"query {n}") for n in range(10)])
    database.write([answered("y", "first")])  # the same text again is another query
    assert database.score([("x", 1.0)]) == [(None, Scored("small", 0.7, "p", None))]
    assert database.score([("x", 0.5)]) == [(None, Scored("small", 0.7, "p", 1.0))]
    assert outcomes(database)["first"]["small"] == Outcome(None, 10, 1)


def test_answers_are_bounded_in_number_and_the_oldest_go(database, monkeypatch):
    monkeypatch.setattr(retention, "_FEWEST_ANSWERS", 5)
    database.retention = Retention(most_queries=3)
    for n in range(20):
        database.write([answered(f"{n}", f"query {n}")])
        assert database.stats()["answers"] <= 5
    assert [known is not None for known in database.score([("14", 1.0), ("15", 1.0)])] == [
        False,
        True,
    ]


def test_more_than_one_goes_at_once_so_that_not_every_write_deletes(memory, store_url):
    memory.retention = Retention(most_queries=1000)
    memory.write([seen(f"query {n}") for n in range(1000)])
    deletions = []
    memory.on_deleted = deletions.append
    for n in range(100):
        memory.write([seen(f"new {n}")])
    assert memory.count() <= 1000
    assert len(deletions) <= 10


def test_what_is_far_beyond_the_bound_goes_in_pieces(database, monkeypatch):
    monkeypatch.setattr(changes, "_AHEAD", 50)
    database.write([seen(f"query {n}") for n in range(500)])
    pieces = []
    database.on_deleted = pieces.append
    database.retention = Retention(most_queries=100)
    database.write([seen("one more")])
    assert [len(ids) for ids in pieces] == [51]
    database.enforce_bounds()
    assert database.count() == len(database.ids()) == 100
    assert max(map(len, pieces)) == 51


def test_what_was_committed_unnoticed_may_be_written_and_scored_again(database):
    pair = answered("x")
    (id,) = database.write([pair, answered("y")])
    database.score([("x", 0.5)])
    assert database.write([pair, answered("z"), answered("z")]) == [id]
    assert outcomes(database)["Why?"]["small"] == Outcome(0.5, 10, 1)
    assert database.stats()["models"]["small"]["answers"] == 3
    # The score that is there already is the one that was to be written: it replaced none.
    (known,) = database.score([("x", 0.5)], again=True)
    assert known == (id, Scored("small", None, None, None))
    assert database.score([("x", 1.0)], again=True)[0][1].replaced == 0.5
    assert outcomes(database)["Why?"]["small"] == Outcome(1.0, 10, 1)


def test_a_row_tells_its_revision_and_a_deletion_is_a_revision_of_its_own(database):
    (id,) = database.write([answered("x")])
    before = database.read([id])[0].revision
    assert before == database.revision()
    database.score([("x", 1.0)])
    ((row,),) = database.rows()
    assert row.revision == database.revision() > before
    assert database.ids() == {id}
    retained(database, None, 0)
    assert database.revision() > row.revision
    assert database.ids() == set()


def test_what_others_delete_is_told_apart_from_what_one_deletes_oneself(database, store_url):
    other = Database(store_url, "encoder", D)
    database.write([seen("a"), seen("b")])
    retained(database, 1)
    assert database.deletions_by_others() == 0
    assert other.deletions_by_others() == 1
    retained(other, 0)
    assert database.deletions_by_others() == 1
    other.close()


def test_answers_wait_for_feedback_no_longer_than_they_should(database):
    database.write([answered("x")])
    database.retain()
    assert database.score([("x", 1.0)]) != [None]
    retained(database, answer_hours=0)
    assert database.score([("x", 1.0)]) == [None]
    assert outcomes(database)["Why?"]["small"] == Outcome(1.0, 10, 1)


def test_what_others_wrote_is_found_and_nothing_twice_or_never(database, store_url):
    other = Database(store_url, "encoder", D)
    mine, shared = database.write([seen("mine"), seen("shared")])
    since = database.revision()
    assert other.changed_by_others(0) == [mine, shared]
    theirs, _ = other.write([seen("theirs"), seen("shared")])
    assert sorted(database.changed_by_others(since)) == sorted([theirs, shared])
    assert database.changed_by_others(database.revision()) == []
    other.write([answered("x", "mine")])
    since = database.revision()
    other.score([("x", 1.0)])
    assert database.changed_by_others(since) == [mine]
    other.close()


def test_writers_at_once_neither_fail_nor_lose(database, store_url):
    other = Database(store_url, "encoder", D)

    def work(number):
        target = (database, other)[number % 2]
        for turn in range(10):
            queries = [f"query {(number * turn + at) % 7}" for at in range(3)]
            target.write([seen(query, quality=1, output_tokens=turn) for query in queries])
            target.write([answered(f"{number} {turn}", "query 0")])
            assert target.score([(f"{number} {turn}", 0.0)]) != [None]
            target.read([1, 2, 3])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    other.close()
    total = database.stats()["models"]["small"]
    assert total["answers"] == total["scored"] == 8 * 10 * 4
    assert total["quality"] == pytest.approx(0.75)
    assert database.revision() == 8 * 10 * 3


def test_many_threads_share_a_database_in_memory(memory):
    def work(number):
        memory.write([seen(f"query {number}", quality=1)])
        return memory.count()

    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(work, range(50))) == 50


def test_many_may_make_one_store_at_once(store_url):
    barrier = threading.Barrier(6)

    def work(number):
        barrier.wait()
        database = Database(store_url, "encoder", D)
        database.write([seen(f"query {number}")])
        return database

    with ThreadPoolExecutor(6) as pool:
        databases = list(pool.map(work, range(6)))
    assert databases[0].count() == 6
    for database in databases:
        database.close()


def test_a_failed_write_leaves_nothing(database):
    broken = Observation("new", vector("new"), None, "answers")  # type: ignore[arg-type]
    with pytest.raises(sqlalchemy.exc.IntegrityError) as caught:
        database.write([seen("good"), broken])
    assert "good" not in str(caught.value)  # queries are nobody's business in a log
    assert database.count() == database.revision() == 0


def test_figures(database):
    database.write(
        [
            seen("a", "small", quality=1, output_tokens=10, seconds=2),
            seen("b", "small", "import:x", output_tokens=30, count=3),
            seen("a", "large", "import:x", quality=0.5),
        ]
    )
    database.write([answered("x", "a", "large")])
    stats = database.stats()
    assert (stats["queries"], stats["outcomes"], stats["answers"]) == (2, 4, 1)
    assert stats["models"]["small"] == {
        "queries": 2,
        "answers": 4,
        "scored": 1,
        "quality": 1,
        "output_tokens": 25,
        "seconds": 2,
        "identities": {"": 4},
    }
    assert stats["sources"] == {"answers": 2, "import:x": 4}
    assert stats["embedding_model"] == "encoder"
    assert stats["bytes"] > 0


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"quality": math.nan}, "quality must be a number"),
        ({"quality": 1.01}, "between 0 and 1"),
        ({"quality": -0.01}, "quality must be"),
        ({"output_tokens": -1}, "output_tokens must be"),
        ({"output_tokens": math.inf}, "output_tokens must be"),
        ({"seconds": -1}, "seconds must be"),
        ({"input_tokens": -1}, "input_tokens must be"),
        ({"characters": -1}, "characters must be"),
        ({"count": 0}, "at least 1"),
    ],
)
def test_an_observation_that_can_not_be_is_refused(known, message):
    with pytest.raises(ValueError, match=message):
        seen(**known)


@pytest.mark.parametrize("score", [math.nan, -0.1, 1.1])
def test_a_score_that_can_not_be_is_refused(memory, score):
    memory.write([answered("x")])
    with pytest.raises(ValueError, match="between 0 and 1"):
        memory.score([("x", 1.0), ("x", score)])
    assert outcomes(memory)["Why?"]["small"].quality is None


@pytest.mark.parametrize(
    ("embedding", "message"),
    [
        (np.ones(D + 1) / 3, r"\(8,\), not \(9,\)"),
        (np.zeros(D), "length 1"),
        (np.full(D, np.nan), "length 1"),
    ],
)
def test_an_embedding_that_can_not_be_is_refused(memory, embedding, message):
    with pytest.raises(ValueError, match=message):
        memory.write([Observation("Why?", embedding, "small", "answers")])
    assert memory.count() == 0


def test_another_embedding_model_is_refused(database, store_url):
    for model, dimensions in (("another", D), ("encoder", D + 1)):
        with pytest.raises(EmbeddingModelChanged, match=r"ops\.store reembed"):
            Database(store_url, model, dimensions)
    whatever = Database(store_url)
    assert (whatever.embedding_model, whatever.dimensions) == ("encoder", D)
    whatever.close()


def test_a_store_that_is_not_there_is_not_made_by_who_only_looks(tmp_path, postgresql):
    with pytest.raises(ValueError, match="no store at"):
        Database(f"sqlite:///{tmp_path}/typo/store.db")
    assert not (tmp_path / "typo").exists()
    with pytest.raises(ValueError, match="no store at"):
        Database(postgresql.database())


def test_a_newer_version_is_refused(database, store_url):
    engine = sqlalchemy.create_engine(make_url(store_url).set(drivername=_driver(store_url)))
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE store_version SET version_num = '999'")
    engine.dispose()
    with pytest.raises(ValueError, match=r"newer version of this program.*999.*install"):
        Database(store_url, "encoder", D)


def _driver(url):
    return "sqlite" if url.startswith("sqlite") else "postgresql+psycopg"


def test_a_database_of_something_else_is_refused_and_left_alone(tmp_path):
    file = tmp_path / "other.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE queries (x)")
    connection.close()
    with pytest.raises(ValueError, match="something else"):
        Database(f"sqlite:///{file}", "encoder", D)
    (tmp_path / "text.db").write_text("This is no database. " * 100)
    with pytest.raises(ValueError, match="not a database"):
        Database(f"sqlite:///{tmp_path}/text.db", "encoder", D)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("store.db", "write it as"),
        ("mysql://user:secret@host/name", "must begin with"),
        ("sqlite+aiosqlite:///x", "must begin with"),
        ("sqlite:////proc/nowhere/store.db", "can't open"),
        ("postgresql://user:secret@127.0.0.1:1/name", "can't open .*user:.*127"),
        ("postgresql://127.0.0.1:1/name?user=x&password=secret", "can't open"),
        ("postgresql://user:secret@host:port/name", "write it as"),
        ("postgresql://user:a@secret/name@127.0.0.1:1/name", "percent-encode"),
        ("postgresql://user:a@127.0.0.1?secret@127.0.0.1:1/name", "percent-encode"),
        ("postgresql://127.0.0.1:1/name?options=secret&sslpassword=secret", "can't open"),
    ],
)
def test_a_url_that_can_not_be_opened_is_told_without_its_password(url, message):
    with pytest.raises(ValueError, match=message) as caught:
        Database(url, "encoder", D)
    assert "secret" not in f"{caught.value!r} {caught.value.__cause__!r}"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_password_is_never_shown(postgresql, caplog):
    url = make_url(postgresql.database()).set(password="sEc@/ReT")
    url = url.update_query_dict({"options": "-c application_name=sEcReT"})
    database = Database(url.render_as_string(hide_password=False), "encoder", D)
    told = f"{database!r} {database.url} {database.stats()} {caplog.text}"
    with pytest.raises(EmbeddingModelChanged) as caught:
        Database(url.render_as_string(hide_password=False), "another", D)
    database.close()
    for part in ("sEc", "ReT"):
        assert part not in told + str(caught.value)


def test_without_psycopg_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ValueError, match=r"pip install 'llm-cores-on-ray-serve\[postgresql\]'"):
        Database("postgresql://host/name", "encoder", D)


def test_the_default_is_a_file_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    database = Database(default_url(), "encoder", D)
    database.close()
    assert (tmp_path / "llm-cores-on-ray-serve" / "store.db").exists()
    monkeypatch.delenv("XDG_STATE_HOME")
    assert default_url().startswith(f"sqlite:///{Path.home()}/.local/state/")


def _permissions(folder):
    return {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}


def test_only_its_owner_may_read_the_file(tmp_path):
    folder = tmp_path / "state"
    database = Database(f"sqlite:///{folder}/store.db", "encoder", D)
    database.write([seen()])
    assert _permissions(tmp_path) == {"state": 0o700}
    private = dict.fromkeys(("store.db", "store.db-wal", "store.db-shm"), 384)
    assert _permissions(folder) == private
    for file in folder.iterdir():
        file.chmod(0o644)
    folder.chmod(0o755)
    Database(f"sqlite:///{folder}/store.db").close()
    assert _permissions(folder) == private
    assert _permissions(tmp_path) == {"state": 0o755}  # the user's own wish
    database.close()


def test_only_its_owner_may_read_a_file_that_is_named_by_a_uri(tmp_path):
    database = Database(f"sqlite:///file:{tmp_path}/own/store.db?uri=true", "encoder", D)
    database.write([seen()])
    assert set(_permissions(tmp_path / "own").values()) == {0o600}
    database.close()


def test_a_commit_of_sqlite_is_on_the_disk(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/store.db", "encoder", D)
    with database._connections.reading() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    database.close()
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_a_database_that_is_away_is_told_and_found_again_when_it_is_back(postgresql):
    database = Database(postgresql.database(), "encoder", D)
    database.write([seen(quality=1)])
    postgresql.kill()
    with pytest.raises(DatabaseUnavailable):
        database.write([seen(quality=0)])
    postgresql.start()
    database.write([seen(quality=0)])
    assert outcomes(database)["Why?"]["small"] == Outcome(0.5, None, 2)
    database.close()

"""Promise: answers agree if they say the same, whatever their form."""

import pytest

from deployments.store.agreement import digest_of, same_answer


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Paris", "  paris. "),
        ("the  red\nfox", "The red fox"),
        ("1,000", "1000.0"),
        ("1e3", "1000"),
        ("$12.50", "12.5"),
        ("-0", "0"),
        ("50%", "50.0%"),
        ("1" * 30, "1" * 30 + ".0"),
        ("Here it is:\n```python\nx = 1\n```", "```\nx = 1  \n```\nThat sets x."),
    ],
)
def test_form_makes_no_difference(one: str, other: str) -> None:
    assert same_answer(one, other)
    assert same_answer(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Paris", "London"),
        ("12", "12.5"),
        ("50%", "50"),
        ("-3", "3"),
        ("1,00", "100"),
        ("1" * 30, "1" * 29 + "2"),
        ("```\nx = 1\n```", "```\nX = 1\n```"),
        ("```\nif a:\n  b\n```", "```\nif a:\nb\n```"),
        ("```\na\n```\n```\nb\n```", "```\na\n```\n```\nc\n```"),
    ],
)
def test_content_does(one: str, other: str) -> None:
    assert not same_answer(one, other)


def test_an_empty_answer_agrees_with_none() -> None:
    assert not same_answer("", "")
    assert not same_answer(" \n", "")


def test_answers_have_one_digest_if_they_say_the_same() -> None:
    assert digest_of("1,000") == digest_of("1000.0")
    assert digest_of("Paris.") == digest_of(" paris")
    assert digest_of("Paris") != digest_of("Rome")
    assert digest_of(" ") is None


def test_a_digest_fits_in_a_databases_integers() -> None:
    digests = [digest_of(str(number)) for number in range(1000)]
    assert len({*digests}) == 1000
    assert all(digest is not None and 0 <= digest < 2**63 for digest in digests)

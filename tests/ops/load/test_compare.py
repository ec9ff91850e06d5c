"""Promise: two reports are set side by side, and each difference is judged as it should be."""

from pathlib import Path
from typing import Any

import pytest
from html_pages import Page
from load_runs import outline, request, sample, write_run, write_spike

from ops.load.compare import compare
from ops.load.report import MalformedRun, write


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take a second each."""
    monkeypatch.setattr("ops.load.report.draw", lambda *_: None)


def reported(folder: Path, took: float, **run: Any) -> Path:
    """A run of four requests of `took` seconds, with its report."""
    requests = [request(at, ended=at + took, cost=0.001) for at in range(4)]
    write(write_run(folder, outline(**run), requests, [sample(0.5, small=(1, int(took)))]))
    return folder


def figure(found: dict[str, Any], group: str, name: str) -> dict[str, Any]:
    return next(f for f in found["figures"] if (f["group"], f["figure"]) == (group, name))


def test_differences_and_ratios(tmp_path: Path) -> None:
    found = compare(reported(tmp_path / "a", 2), reported(tmp_path / "b", 3))
    assert (found["a"], found["b"]) == ("a", "b")
    assert figure(found, "whole run", "end to end p50, s") == {
        "group": "whole run",
        "figure": "end to end p50, s",
        "a": 2,
        "b": 3,
        "difference": 1,
        "ratio": 1.5,
        "b_is": "worse",
    }
    assert figure(found, "deployment small", "replica-seconds")["b_is"] == "worse"
    assert figure(found, "stage steady 1", "goodput, share")["b_is"] == "same"
    assert figure(found, "model small", "cost of 1,000 requests, USD")["b_is"] == "same"


@pytest.mark.parametrize(
    ("a", "b", "judged"), [(3, 2, "better"), (2, 3, "worse"), (2, 2, "same"), (2, 2.01, "same")]
)
def test_less_time_is_better(tmp_path: Path, a: float, b: float, judged: str) -> None:
    found = compare(reported(tmp_path / "a", a), reported(tmp_path / "b", b))
    assert figure(found, "whole run", "end to end p99, s")["b_is"] == judged


def test_more_goodput_is_better_and_more_load_is_neither(tmp_path: Path) -> None:
    for name, good in (("a", 1), ("b", 3)):
        requests = [request(at, error=None if at < good else "timeout") for at in range(3 + good)]
        write(write_run(tmp_path / name, outline(), requests, []))
    found = compare(tmp_path / "a", tmp_path / "b")
    assert figure(found, "whole run", "goodput, share")["b_is"] == "better"
    assert figure(found, "whole run", "offered, requests/s")["ratio"] == 1.5
    assert figure(found, "whole run", "offered, requests/s")["b_is"] is None


def test_what_one_run_lacks_is_not_judged(tmp_path: Path) -> None:
    write(write_run(tmp_path / "b", outline(), [], []))
    found = compare(reported(tmp_path / "a", 2), tmp_path / "b")
    missing = figure(found, "whole run", "time to first token p50, s")
    assert (missing["b"], missing["difference"], missing["ratio"]) == (None, None, None)
    assert missing["b_is"] is None


def test_different_profiles_and_limits_are_told(tmp_path: Path) -> None:
    a = reported(tmp_path / "a", 2)
    b = reported(tmp_path / "b", 2, profile={"seed": 1}, slo={"ttft_s": 1})
    profiles, limits = compare(a, b)["notes"][:2]
    assert profiles.startswith("The profiles of the two runs differ")
    assert limits.startswith("The limits of a good answer of the two runs differ")


def test_what_each_run_drove_is_named(tmp_path: Path) -> None:
    served = {"config": "slo.yaml", "digest": "1a", "version": "1.0", "ray": "2.60"}
    a = reported(tmp_path / "a", 2, served=served)
    b = reported(tmp_path / "b", 2, served={**served, "digest": "2b"})
    url = reported(tmp_path / "c", 2)
    found = compare(a, b)
    assert (found["a_of"], found["b_of"]) == ("slo.yaml", "slo.yaml")
    assert found["notes"][0] == "The content of slo.yaml was changed between the two runs."
    assert "A is a, of slo.yaml" in (b / "compare.html").read_text()
    assert compare(a, url)["b_of"] == "http://localhost:8000"
    assert not any("was changed" in note for note in compare(a, a)["notes"])


def test_the_page_stands_alone_and_has_both_runs_in_each_plot(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        write(write_spike(tmp_path / name, seconds=10, seed=seed))
    compare(tmp_path / "a", tmp_path / "b")
    page = Page((tmp_path / "b" / "compare.html").read_text())
    assert not page.attributes("src")
    assert not page.attributes("href")
    data = page.data()
    for plot in data["plots"]:
        assert [(line["label"], line["line"]) for line in plot["lines"]] == [
            ("A", "dashed"),
            ("B", "solid"),
        ]
        assert {len(line["values"]) for line in plot["lines"]} == {len(data["at_s"])}
    assert {"better", "worse", "same"} & set(page.text["td"])  # words, not colours alone


def test_runs_of_different_length_share_an_axis(tmp_path: Path) -> None:
    a = reported(tmp_path / "a", 2, seconds=7200.0, ended=7200.0)  # in steps of 4 s
    compare(a, reported(tmp_path / "b", 2))
    data = Page((tmp_path / "b" / "compare.html").read_text()).data()
    assert (data["step_s"], len(data["at_s"])) == (4, 1800)
    offered_a, offered_b = (line["values"] for line in data["plots"][0]["lines"])
    assert offered_a[0] == offered_b[0] == 1
    assert offered_b[3] is None  # B was over


def test_a_folder_without_a_report_is_named_with_what_to_do(tmp_path: Path) -> None:
    folder = write_run(tmp_path, outline(), [], [])
    with pytest.raises(MalformedRun, match=r"write it by `python -m ops\.load\.report"):
        compare(folder, folder)

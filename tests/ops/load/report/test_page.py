"""Promise: the page stands alone, shows what servers say as text, and is there for every run."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from html_pages import Page
from load_runs import outline, request, sample, write_run, write_spike

from ops.load.report import report, write
from ops.load.report.page import page as html
from ops.load.report.reading import read

pytestmark = pytest.mark.filterwarnings("error")  # such as matplotlib's of no room
EVIL = "</script><img src=x onerror=alert(1)>"


def page(folder: Path) -> Page:
    return Page(html(report(read(folder))))


def test_everything_is_written(tmp_path: Path) -> None:
    found = write(write_spike(tmp_path, seconds=10))
    names = {"report.json", "report.html", "timeline.png", "latency.png"}
    assert names < {file.name for file in tmp_path.iterdir()}
    assert (tmp_path / "timeline.png").read_bytes().startswith(b"\x89PNG")
    assert found["whole"]["requests"] > 0


def test_the_page_refers_to_nothing_outside_itself(tmp_path: Path) -> None:
    found = page(write_spike(tmp_path, seconds=10))
    assert not {"src", "href", "srcset", "action", "data"} & {
        name for _, attributes in found.elements for name in attributes
    }
    styles = "".join(found.text["style"])
    assert "url(" not in styles
    assert "@import" not in styles
    policy = next(value for value in found.attributes("content") if value and "src" in value)
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_the_plotting_librarys_licence_is_in_the_page(tmp_path: Path) -> None:
    scripts = "".join(page(write_run(tmp_path, outline(), [], [])).text["script"])
    assert "Copyright (c) 2022 Leon Sorokin" in scripts


def test_the_page_can_be_read_without_seeing_it(tmp_path: Path) -> None:
    found = page(write_spike(tmp_path, seconds=10))
    names = [name for name, _ in found.elements]
    assert names.count("h1") == 1
    assert names.count("table") == names.count("caption") > 3
    plots = [attributes for _, attributes in found.elements if "data-plot" in attributes]
    assert len(plots) == len(found.data()["plots"]) > 5
    for plot in plots:
        assert plot["role"] == "img"
        assert " from " in (plot["aria-label"] or "")
    assert ("html", {"lang": "en"}) in found.elements


def test_lines_of_a_plot_differ_without_colour(tmp_path: Path) -> None:
    for plot in page(write_spike(tmp_path, seconds=10)).data()["plots"]:
        lines = [line["line"] for line in plot["lines"]]
        assert len(set(lines)) == len(lines)


def test_what_servers_say_is_text(tmp_path: Path) -> None:
    requests = [request(1, model=EVIL), request(2, error=EVIL, model=None, asked=EVIL)]
    samples = [sample(0.5, None, **{EVIL: (1, 1)}), {"at": 5, "error": EVIL}]
    stages = [{"name": EVIL, "kind": "steady", "start_s": 0, "end_s": 10}]
    run = outline(url=EVIL, profile={"name": EVIL}, stages=stages)
    found = page(write_run(tmp_path, run, requests, samples))
    names = [name for name, _ in found.elements]
    assert "img" not in names
    assert names.count("script") == 4  # ours
    assert found.data()["stages"][0]["name"] == EVIL
    assert EVIL in "".join(found.text["pre"])


def test_pictures_show_any_name(tmp_path: Path) -> None:
    names = ("_hidden", "$\\frac$", "a" * 100)
    requests = [request(1, model=name) for name in names]
    samples = [sample(0.5, None, **dict.fromkeys(names, (1, 1)))]
    write(write_run(tmp_path, outline(), requests, samples))


def test_gaps_are_told_to_the_plots(tmp_path: Path) -> None:
    found = page(write_run(tmp_path, outline(), [request(1)], [sample(0.5, small=(1, 1))]))
    assert found.data()["missing"] == [[3, 10]]


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ({}, "No request was sent, so there is nothing to judge."),
        (
            {"interrupted": True, "sent_until": 0.0, "ended": 0.0},
            "The run was interrupted after 0 s of 10 s.",
        ),
        ({"seconds": 0.0, "ended": 0.0, "stages": []}, "no sample was read"),
    ],
)
def test_an_empty_run_has_a_page_and_pictures_that_say_so(
    tmp_path: Path, run: dict[str, Any], said: str
) -> None:
    write(write_run(tmp_path, outline(**run), [], []))
    html = (tmp_path / "report.html").read_text()
    assert said in html
    Page(html)


def test_the_title_says_what_was_driven(tmp_path: Path) -> None:
    served = {"config": "demo/config.yaml", "digest": "1a2b", "version": "1.0", "ray": "2.60"}
    found = page(write_run(tmp_path, outline(served=served), [], []))
    assert found.text["h1"] == ["Load test of demo/config.yaml"]
    assert "version 1.0, Ray 2.60, configuration’s SHA-256 1a2b" in "".join(found.text["p"])


@pytest.mark.parametrize(
    "known", [{}, {"served": {"config": None, "digest": None, "version": "1.0", "ray": "2.60"}}]
)
def test_of_a_service_that_ran_the_url_is_known_and_no_version(
    tmp_path: Path, known: dict[str, Any]
) -> None:
    found = page(write_run(tmp_path, outline(**known), [], []))
    assert found.text["h1"] == ["Load test of http://localhost:8000"]
    assert "version" not in "".join(found.text["p"])


def test_the_verdict_says_whether_the_goal_was_met(tmp_path: Path) -> None:
    requests = [request(at / 10, error="timeout" if at < 3 else None) for at in range(40)]
    slo = {"ttft_s": 2, "share": 0.9}
    found = report(read(write_run(tmp_path, outline(slo=slo), requests, [])))
    assert found["verdict"][:2] == [
        "92.5 % of 40 requests were good (goal 90 %: met). Good means answered without an error, "
        "first token within 2 s.",
        "3 requests failed.",
    ]


def test_a_goal_just_missed_does_not_look_met(tmp_path: Path) -> None:
    requests = [request(1, error="timeout" if number < 51 else None) for number in range(1000)]
    found = report(read(write_run(tmp_path, outline(), requests, [])))
    assert found["verdict"][0].startswith("94.9 % of 1,000 requests were good (goal 95 %: missed)")


def test_many_deployments_and_models_make_no_endless_page(tmp_path: Path) -> None:
    names = [f"model-{number}" for number in range(150)]
    samples = [sample(0.5, None, **{name: (1, number) for number, name in enumerate(names)})]
    requests = [request(1, model=name) for name in names]
    found = page(write_run(tmp_path, outline(), requests, samples))
    titles = [text for text in found.text["h3"] if text.endswith(": replicas ")]
    assert len(titles) == 20
    assert titles[-1].startswith("model-149")
    assert "and 50 more, in report.json" in found.text["th"]


def command(*arguments: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "ops.load.report", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=120)


def test_the_command_prints_the_verdict_and_where_the_page_is(tmp_path: Path) -> None:
    done = command(write_run(tmp_path, outline(), [request(1)], []))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("100 % of 1 requests were good")
    assert done.stdout.rstrip().endswith(str(tmp_path / "report.html"))


def test_the_command_says_in_a_line_what_is_wrong(tmp_path: Path) -> None:
    done = command(tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(r".* is no folder of a load test: .*\n", done.stderr)

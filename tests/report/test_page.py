import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from chipfit.errors import InvalidInput
from chipfit.graph.values import Decision
from chipfit.report.page import contributions, page, write_page
from chipfit.run.problem import Problem
from chipfit.run.study import make_study
from chipfit.run.summary import Row, Summary

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Checked(HTMLParser):
    """Fails on tags that are not nested, and keeps tags, attributes and texts."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.feed(content)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.mark.parametrize("state", ["empty", "unfinished", "finished"])
def test_every_run_gives_one_whole_page_that_requests_nothing(
    state: str, request: pytest.FixtureRequest, problem: Problem
) -> None:
    summary: Summary = request.getfixturevalue(state)
    content = page(summary, problem)
    checked = Checked(content)
    assert {name for name, _ in checked.attributes}.isdisjoint(
        {"src", "href", "xlink:href", "srcset", "data", "action"}
    )
    assert set(checked.tags).isdisjoint({"script", "link", "iframe", "object", "embed", "img"})
    assert not re.search(r"url\(|@import|https?://", content)
    assert "None" not in checked.text
    assert "nan" not in checked.text.replace("finance", "").split()
    for row in summary.rows:
        assert row.name in checked.text
    assert checked.text.count("Where the time goes") == 1


def test_equal_runs_give_equal_pages(finished: Summary, problem: Problem) -> None:
    assert page(finished, problem) == page(finished, replace(problem))


def test_the_page_has_every_part(finished: Summary, problem: Problem) -> None:
    text = Checked(page(finished, problem)).text
    for part in (
        "V3 both takes ",
        "accuracy 94.0 % on validation is below the 96.2 % asked against the baseline",
        "stage1.block1.fused",
        "stage1.block1.depthwise",
        "trial 14 (search: V3 both): loss is not a number <b>",
        "Stopped early, too far behind the others: trial 13.",
        "within all limits: V2 fusion, V3 both",
        "chipfit search hall.toml --out runs/hall",
        "study 0, data and splits 0",
        "rooms, drawn by chipfit",
        "train 3,000, validation 500, test 1,000 images",
        "a description of a design, not measured on silicon",
        f"{problem.estimator.provenance.subgraphs:,} subgraphs simulated with",
        "All 19 trainings",
    ):
        assert part in text


def test_the_search_of_an_unfinished_run_is_told_as_such(unfinished: Summary, problem: Problem) -> None:
    text = Checked(page(unfinished, problem)).text
    assert "The run is not finished: 4 networks trained so far." in text
    assert "its process was killed (out of memory?)" in text
    assert "there is no network besides the baseline yet" in text


def test_stages_count_every_training_once(finished: Summary, unfinished: Summary) -> None:
    for summary in (finished, unfinished):
        found = contributions(summary)
        numbers = re.findall(r"(\d+) (?:trained|stopped|failed)", " ".join(stage.counts for stage in found))
        assert sum(int(number) for number in numbers) == len(summary.trials)
        assert max(stage.percent for stage in found) == 100


def test_user_given_names_are_texts_and_nothing_else(finished: Summary, problem: Problem) -> None:
    evil = "<script>alert('x')</script>\"'&\x00\x1b[2J"
    decisions = tuple(replace(item, name=f"{evil}{index}") for index, item in enumerate(problem.space.decisions))
    assert isinstance(decisions[0], Decision)
    trial = replace(finished.trials[-1], why=evil)
    summary = replace(
        finished,
        rows=(*finished.rows, Row(evil, trial, False, evil)),
        members={**finished.members, evil: {"search": (trial.number,)}},
        provenance={**finished.provenance, "command": evil, "machine": {evil: evil}},
        study=finished.study.model_copy(update={"name": evil, "model": evil, "target": evil}),
    )
    content = page(summary, problem)
    checked = Checked(content)
    assert "script" not in checked.tags
    assert content.count("&lt;script&gt;") >= 8
    assert "\x00" not in content
    assert "\x1b" not in content
    assert not any("alert" in value for _, value in checked.attributes)


def test_names_of_nodes_are_escaped(problem: Problem, finished: Summary) -> None:
    space = problem.space
    keys = {node.key: f"<i onmouseover=x>{node.key}" for node in space.nodes}
    nodes = tuple(
        replace(node, key=keys[node.key], inputs=tuple(keys.get(name, name) for name in node.inputs))
        for node in space.nodes
    )
    renamed = replace(space, nodes=nodes, outputs=tuple(keys[name] for name in space.outputs))
    other = replace(problem, space=renamed, prepared=problem.estimator.prepare(renamed))
    checked = Checked(page(finished, other))
    assert "onmouseover" not in {name for name, _ in checked.attributes}
    assert "<i onmouseover=x>stem" in checked.text


def test_the_page_is_written_whole(finished: Summary, problem: Problem, tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    write_page(finished, problem, path)
    assert path.read_text(encoding="utf-8") == page(finished, problem)
    assert [item.name for item in path.parent.iterdir()] == ["report.html"]
    with pytest.raises(InvalidInput, match="cannot write"):
        write_page(finished, problem, path / "below")


def test_a_variant_that_found_nothing_has_its_row_and_reason(finished: Summary, problem: Problem) -> None:
    rows = (finished.rows[0], Row("V1 multiplier", None, False, "no network came near enough"))
    text = Checked(page(replace(finished, rows=rows), problem)).text
    assert "No network was found that holds all limits" in text
    assert "no network came near enough" in text


def test_a_study_of_the_users_own_training_has_a_page(finished: Summary, problem: Problem) -> None:
    study = make_study({**finished.study.identity, "accuracy": "mine:train"})
    text = Checked(page(replace(finished, study=study, provenance={"data": {"source": "own"}}), problem)).text
    assert "accuracy: as returned by mine:train" in text


def test_a_list_of_targets_needs_no_torch() -> None:
    script = (
        "import sys; from chipfit.report import tables; from chipfit.targets import shipped_targets; "
        "tables.text(tables.targets(shipped_targets())); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False", done.stderr

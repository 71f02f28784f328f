"""What docs/search.md says is what chipfit does."""

import re
import tomllib
from pathlib import Path

from chipfit.run.launch import ALGORITHMS
from chipfit.run.settings import COMBINED, CONVERGE, HALVING, SearchSettings
from chipfit.run.study import make_study

PAGE = (Path(__file__).parents[1] / "docs" / "search.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_studies_on_the_page_are_some() -> None:
    combined, converging, halving = (tomllib.loads(section) for section in blocks("toml"))
    study = make_study({"name": "page", "model": "mobilenet_v2-0.35-96", "target": "neural-engine", **converging})
    assert study.search.converges
    assert study.search.converge == type(study.search.converge)()
    halved = SearchSettings.model_validate(halving["search"])
    assert halved.rungs == (1, 3, 9)
    assert [halved.starters // 3**rung for rung in range(3)] == [30, 10, 3]
    settings = SearchSettings.model_validate(combined["search"])
    assert settings.combines
    assert settings.budget == 1800
    assert settings.combined == type(settings.combined)()  # the page shows the defaults


def test_all_algorithms_are_named() -> None:
    named = set(re.findall(r"`(\w+)`", PAGE[PAGE.index("A study chooses") : PAGE.index("## The combined")]))
    assert {*ALGORITHMS, COMBINED, CONVERGE, HALVING} <= named


def test_the_lines_of_python_run(capsys) -> None:  # type: ignore[no-untyped-def]
    (code,) = blocks("python")
    exec(code, {})
    first, second = (float(line) for line in capsys.readouterr().out.split())
    assert first != second

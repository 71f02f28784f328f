"""What docs/search.md says is what chipfit does."""

import re
import tomllib
from pathlib import Path

from chipfit.run.launch import ALGORITHMS
from chipfit.run.settings import COMBINED, SearchSettings

PAGE = (Path(__file__).parents[1] / "docs" / "search.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_study_on_the_page_is_one() -> None:
    (section,) = blocks("toml")
    settings = SearchSettings.model_validate(tomllib.loads(section)["search"])
    assert settings.combines
    assert settings.budget == 1800
    assert settings.combined == type(settings.combined)()  # the page shows the defaults


def test_all_algorithms_are_named() -> None:
    named = set(re.findall(r"`(\w+)`", PAGE[PAGE.index("A study chooses") : PAGE.index("## The combined")]))
    assert {*ALGORITHMS, COMBINED} <= named


def test_the_lines_of_python_run(capsys) -> None:  # type: ignore[no-untyped-def]
    (code,) = blocks("python")
    exec(code, {})
    first, second = (float(line) for line in capsys.readouterr().out.split())
    assert first != second

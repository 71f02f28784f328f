"""Reviews: what was said comes back, and a file of something else is refused in one line."""

from pathlib import Path

import pytest

from chipfit.errors import InvalidInput
from chipfit.estimate.store import default_estimator
from chipfit.expert.advice import Advice, advise
from chipfit.expert.review import accepted, read_review, write_review
from chipfit.nets.load import load
from chipfit.targets import load_target


@pytest.fixture(scope="module")
def found() -> Advice:
    return advise(load("ibn_classifier"), default_estimator(load_target("neural-engine")))


def test_what_was_said_comes_back(found: Advice, tmp_path: Path) -> None:
    file = tmp_path / "review.toml"
    assert read_review(file, found) == {}
    said = {item.change.name: place % 2 == 0 for place, item in enumerate(found.advised)}
    write_review(file, found, said)
    assert read_review(file, found) == said
    code = accepted(found, said)
    for item in found.advised:
        assert bool(code[item.change.decision]) == said[item.change.name]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model = ", "not a review that can be read"),
        ("model = 'resnet8'", "true or false"),
        ("[changes]\nx = 1", "true or false"),
        ("model = 'resnet8'\n[changes]", "is a review of model 'resnet8'"),
        ("model = 'ibn_classifier'\ntarget = 'neural-engine'\n[changes]\nx = true", "there is no change 'x'"),
    ],
)
def test_another_file_is_refused(found: Advice, tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "review.toml"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=message):
        read_review(file, found)
    assert file.read_text() == text

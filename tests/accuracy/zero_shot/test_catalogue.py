import pytest

from chipfit.accuracy.zero_shot import SCORES, default, score_of
from chipfit.errors import InvalidInput


def test_names_lead_to_scores() -> None:
    assert all(score_of(name) is score for name, score in SCORES.items())
    assert SCORES["default"] is default


def test_a_users_own_function_is_a_score() -> None:
    assert score_of("chipfit.accuracy.zero_shot.zen:zen") is SCORES["zen"]


@pytest.mark.parametrize("name", ["zenn", "", "chipfit.errors:nothing", "chipfit.accuracy.zero_shot.patterns:SAMPLES"])
def test_what_is_no_score_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        score_of(name)

import pytest

from chipfit.accuracy.zero_shot import SCORES
from chipfit.testing.scores import check_score

ANY_ORDER = {"parameters", "flops", "complexity", "synflow", "naswot", "swap", "jacobian_covariance", "meco"} | {
    "expressivity",
    "progressivity",
}


@pytest.mark.parametrize("name", [name for name in SCORES if name != "default"])
def test_scores_keep_what_scores_promise(name: str) -> None:
    check_score(SCORES[name], any_order=name in ANY_ORDER)

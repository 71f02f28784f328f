"""Features say how far codes are from each other, and put hints on one scale."""

import numpy as np
import pytest

from chipfit.errors import InvalidInput
from chipfit.search import Codes, Domain
from chipfit.search.features import Describe

DOMAIN = Domain((3, 1, 5))
SAMPLE = np.random.default_rng(0).integers(0, DOMAIN.cardinalities, (500, 3))


def squared(first: list[int], second: list[int]) -> float:
    options = Describe(DOMAIN, None, SAMPLE)(np.array([first, second])).options
    return float(((options[0] - options[1]) ** 2).sum())


def test_the_squared_distance_is_the_share_of_decisions_that_differ() -> None:
    assert squared([0, 0, 0], [0, 0, 0]) == 0
    assert squared([0, 0, 0], [2, 0, 4]) == pytest.approx(1.0)
    assert squared([0, 0, 0], [0, 0, 4]) == pytest.approx(0.5)
    assert squared([0, 0, 0], [0, 0, 1]) < squared([0, 0, 0], [0, 0, 2]) < squared([0, 0, 0], [0, 0, 4])


def test_hints_count_by_their_order_only() -> None:
    plain = Describe(DOMAIN, lambda codes: codes.astype(float), SAMPLE)(SAMPLE).hints
    skewed = Describe(DOMAIN, lambda codes: np.exp(3.0 * codes), SAMPLE)(SAMPLE).hints
    np.testing.assert_allclose(plain, skewed)
    assert (np.diff(plain[np.argsort(SAMPLE[:, 2]), 2]) >= 0).all()
    assert not plain[:, 1].any()


def test_a_missing_hint_is_neither_good_nor_bad() -> None:
    def hints(codes: Codes) -> np.ndarray:
        return np.where(codes[:, :1] == 0, np.nan, codes[:, 2:].astype(float))

    found = Describe(DOMAIN, hints, SAMPLE)(SAMPLE).hints[:, 0]
    assert not found[SAMPLE[:, 0] == 0].any()
    assert found[SAMPLE[:, 0] > 0].any()
    assert not Describe(DOMAIN, lambda codes: np.full((len(codes), 1), np.nan), SAMPLE)(SAMPLE).hints.any()


@pytest.mark.parametrize("given", [np.zeros(500), np.zeros((3, 1)), np.full((500, 1), np.inf)])
def test_hints_of_another_form_are_refused(given: np.ndarray) -> None:
    with pytest.raises(InvalidInput, match="hints of shape"):
        Describe(DOMAIN, lambda _: given, SAMPLE)

import numpy as np
import pytest

from chipfit.errors import InvalidInput
from chipfit.search import Domain, FreeCosts


def test_size_is_exact_beyond_machine_integers() -> None:
    assert Domain((10,) * 40).size == 10**40
    assert Domain(()).size == 1


def test_a_decision_without_options_is_refused() -> None:
    with pytest.raises(InvalidInput, match="decision 1"):
        Domain((2, 0))


@pytest.mark.parametrize(
    "codes",
    [np.zeros(2, dtype=int), np.zeros((1, 3), dtype=int), np.zeros((1, 2)), np.array([[0, 2]]), np.array([[-1, 0]])],
)
def test_codes_that_are_not_of_the_domain_are_refused(codes: np.ndarray) -> None:
    with pytest.raises(InvalidInput):
        Domain((2, 2)).checked(codes)


def test_canonicalising_leaves_the_codes_given_alone() -> None:
    def in_place(codes: np.ndarray) -> np.ndarray:
        codes[:] = 0
        return codes

    codes = np.ones((3, 2), dtype=np.int64)
    assert not Domain((2, 2), canonical=in_place).canonicalised(codes).any()
    assert codes.all()


def test_without_free_costs_nothing_is_known_and_nothing_violated() -> None:
    costs = Domain((2, 2)).free_costs(np.zeros((3, 2), dtype=np.int64))
    assert costs.objectives.shape == (3, 0)
    assert costs.violation.tolist() == [0, 0, 0]


def test_free_costs_of_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidInput):
        FreeCosts(np.zeros((3, 1)), np.zeros(2))

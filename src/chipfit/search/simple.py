"""The simplest algorithm: the one that every other has to beat."""

import numpy as np
from numpy.typing import NDArray

from chipfit.search.algorithm import Codes, Domain
from chipfit.search.proposals import Proposals


class RandomSearch:
    """Uniformly random codes among those that meet the free limits and are worth an evaluation.

    Uniform over codes: a network that several codes stand for is that much more likely.
    """

    def __init__(self, domain: Domain, seed: int) -> None:
        self._proposals = Proposals(domain, np.random.default_rng(seed))

    def ask(self, n: int) -> Codes:
        """At most n fresh codes, see `Algorithm.ask`."""
        return self._proposals.draw(n, self._proposals.uniform, pool=n)

    def tell(self, codes: Codes, objectives: NDArray[np.float64], violation: NDArray[np.float64] | None = None) -> None:
        """Values of codes, see `Algorithm.tell`."""
        self._proposals.tell(codes, objectives, violation)

"""A search by successive halving in a study: many networks for a few epochs, the better third of them for more.

Every rung of a network is a trial of its own, which goes on from the weights of the rung below. What is asked depends
on finished trials only, in batches that are told before the next is asked, so that a run is taken up as any other.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from chipfit.run.choosing import Floats, judged
from chipfit.run.jobs import Progress
from chipfit.run.journal import Trial
from chipfit.run.problem import Problem
from chipfit.search.algorithm import Algorithm, Codes
from chipfit.search.halving import Halving
from chipfit.spaces.preflight import violation

Code = tuple[int, ...]
Step = tuple[Code, int]
"""A network and the rung up to which it is trained, in epochs."""

Evaluate = Callable[[Sequence[Step]], Generator[Progress | Trial, None, list[Trial]]]


@dataclass(slots=True)
class Halved:
    """The searches of all variants of a run. `wanted` is the accuracy that candidates must reach, by rung.

    `trained` is what was asked so far: a variant is told of the networks of others that its decisions can make.
    """

    problem: Problem
    evaluate: Evaluate
    wanted: Mapping[int, float]
    trained: dict[Step, Trial] = field(default_factory=dict[Step, Trial])

    def search(
        self, decisions: tuple[int, ...], algorithm: Algorithm, reference: Trial
    ) -> Generator[Progress | Trial, None, list[int]]:
        """Trains what halving asks for until the epochs of the study's trials are spent; the trials by number.

        `algorithm` proposes what starts. `reference` is the baseline on the first rung, which the algorithm is told: it
        takes no part in the halving, as it is trained up to all rungs anyway.
        """
        search = self.problem.study.search
        halving = Halving(self.problem.domain(decisions), algorithm, search.rungs)
        algorithm.tell(
            np.zeros((1, len(decisions)), np.int64),
            *judged(self.problem, np.asarray([reference.code]), [reference], self.wanted[search.rungs[0]]),
        )
        others = sorted(set(range(len(self.problem.space.decisions))) - set(decisions))
        known = [step for step in self.trained if not any(step[0][index] for index in others)]
        found = self._tell(halving, decisions, known)
        epochs, starters = search.trials * search.epochs, search.starters
        while True:
            asked = self._affordable(halving.ask(search.batch), decisions, epochs, starters)
            if not asked:
                asked = self._affordable(halving.ask_best(search.batch, search.finalists), decisions, epochs, starters)
            if not asked:
                return found
            trials = yield from self.evaluate(asked)
            self.trained.update(zip(asked, trials, strict=True))
            found += self._tell(halving, decisions, asked)
            epochs -= sum(rung - search.below(rung) for _, rung in asked)
            starters -= sum(rung == search.rungs[0] for _, rung in asked)

    def _affordable(
        self, asked: tuple[Codes, Floats], decisions: tuple[int, ...], epochs: int, starters: int
    ) -> list[Step]:
        """What was asked and is within the limits, as far as the epochs and the networks that may start suffice."""
        search = self.problem.study.search
        codes = self.problem.embed(asked[0], decisions)
        # Where nothing is within the limits, an algorithm may ask for what comes nearest.
        within = violation(self.problem.costs(codes), self.problem.limits) == 0
        found: list[Step] = []
        for code, budget in zip(codes[within].tolist(), asked[1][within].tolist(), strict=True):
            rung = int(budget)
            added, starts = rung - search.below(rung), int(rung == search.rungs[0])
            if added <= epochs and starts <= starters:
                found.append((tuple(code), rung))
                epochs, starters = epochs - added, starters - starts
        return found

    def _tell(self, halving: Halving, decisions: tuple[int, ...], steps: Sequence[Step]) -> list[int]:
        """Tells what steps gave; the numbers of their trials."""
        trials = [self.trained[step] for step in steps]
        if steps:
            codes = np.array([code for code, _ in steps], np.int64)
            rungs = np.array([rung for _, rung in steps], np.float64)
            wanted = np.array([self.wanted[rung] for _, rung in steps])
            objectives, short = judged(self.problem, codes, trials, wanted)
            halving.tell(self.problem.narrowed(codes, decisions), rungs, objectives, short)
        return [trial.number for trial in trials]

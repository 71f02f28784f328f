"""A study made ready: the network, the space around it, what every candidate costs, and which limits hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput, JournalMismatch, LimitImpossible
from chipfit.estimate.estimator import Costs, Estimator, SpaceCosts
from chipfit.estimate.store import estimator_digest, estimator_for
from chipfit.expert.ruled import code_by_rules
from chipfit.expert.rules import load_pack
from chipfit.graph.canonical import canonical
from chipfit.graph.graph import Graph
from chipfit.graph.ways import depths
from chipfit.nets.load import load
from chipfit.nets.network import Network
from chipfit.run.amounts import amount
from chipfit.run.settings import GIVEN
from chipfit.run.study import Study
from chipfit.run.tabular import MODEL, published
from chipfit.search.algorithm import Codes, Domain, FreeCosts
from chipfit.search.exact import Table, minimum
from chipfit.spaces.curate import Curated, curate
from chipfit.spaces.edits import open_space
from chipfit.spaces.preflight import Preflight, preflight, violation
from chipfit.targets import load_target

if TYPE_CHECKING:
    from chipfit.run.summary import Summary

Floats = NDArray[np.float64]

COLUMNS: Mapping[str, str] = {
    "latency": "latency_s",
    "energy": "energy_j",
    "weights": "weight_bytes",
    "peak_memory": "peak_bytes",
    "parameters": "parameters",
    "macs": "macs",
}
"""Where each cost of a study stands in `Costs`."""

SUMS = ("latency", "energy", "weights", "parameters", "macs")
"""Costs that are sums of tables; peak memory is a maximum of such sums."""

ROUNDING = 1e-9
"""How far above a limit, as a fraction, is still within it: the same sum in another order."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What a run works on. `members` says which decisions each edit opened, by index.

    `curated` says which options a search is offered, None where it is offered all of `space`. Codes are those of
    `space` everywhere but inside `domain`, so that a journal does not depend on what was curated.
    """

    study: Study
    network: Network
    space: Graph
    members: Mapping[str, tuple[int, ...]]
    estimator: Estimator
    prepared: SpaceCosts
    curated: Curated | None = None

    def costs(self, codes: Codes) -> dict[str, Floats]:
        """Every cost (n,) of codes (n, d), by the names that studies use, and "spread" of the latency."""
        found: Costs = self.prepared.at(codes)
        return {name: getattr(found, column) for name, column in COLUMNS.items()}

    @cached_property
    def predicts(self) -> dict[str, Any]:
        """What predicts costs, as a journal keeps it: a digest, and where the measurements are from."""
        source, calibration = self.estimator.provenance.source, self.estimator.calibration
        whole = None if calibration is None else asdict(calibration.source)
        fitted = self.estimator.provenance.fitted
        return {"digest": estimator_digest(self.estimator), "fitted": fitted, **asdict(source), "calibrated": whole}

    @cached_property
    def baseline(self) -> dict[str, float]:
        """Costs of the network as it was given."""
        zero = np.zeros((1, len(self.space.decisions)), np.int64)
        return {name: float(values[0]) for name, values in self.costs(zero).items()}

    @cached_property
    def limits(self) -> dict[str, float]:
        """Upper bounds on costs, in SI units."""
        return {
            name: bound.value * (self.baseline[name] if bound.relative else 1.0)
            for name, bound in self.study.limits.costs.items()
        }

    def decisions_of(self, edits: Iterable[str]) -> tuple[int, ...]:
        """Indices of the decisions that these edits opened, in order."""
        return tuple(sorted(index for edit in edits for index in self.members[edit]))

    def ruled(self, pack: str) -> tuple[int, ...]:
        """The code of what a rule pack, by name or path, asks for of this network on this chip (`code_by_rules`)."""
        return code_by_rules(self.network.graph, self.space, self.prepared, self.estimator.target, load_pack(pack))

    @cached_property
    def offered(self) -> tuple[tuple[int, ...], ...]:
        """For every decision the options that a search is offered, by index."""
        return self.curated.kept if self.curated else tuple(tuple(range(len(item))) for item in self.space.decisions)

    def reach(self, decisions: Sequence[int]) -> int:
        """How many codes there are over some decisions of what is offered."""
        return math.prod(len(self.offered[index]) for index in decisions)

    def embed(self, codes: Codes, decisions: tuple[int, ...]) -> Codes:
        """Codes of what is offered of some decisions as codes of the space, the others as in the baseline."""
        return self._given(self._placed(codes, decisions))

    def narrowed(self, codes: Codes, decisions: tuple[int, ...]) -> Codes:
        """The reverse of `embed`. Raises `InvalidInput` for codes with an option that is not offered."""
        found = np.empty((len(codes), len(decisions)), np.int64)
        for column, index in enumerate(decisions):
            places = np.full(len(self.space.decisions[index]), -1, np.int64)
            places[list(self.offered[index])] = np.arange(len(self.offered[index]))
            found[:, column] = places[codes[:, index]]
        if (found < 0).any():
            raise InvalidInput("a code has an option that curation removed")
        return found

    def _placed(self, codes: Codes, decisions: tuple[int, ...]) -> Codes:
        full = np.zeros((len(codes), len(self.space.decisions)), np.int64)
        full[:, list(decisions)] = codes
        return full

    def _given(self, codes: Codes) -> Codes:
        return self.curated.full(codes) if self.curated else codes

    def domain(self, decisions: tuple[int, ...]) -> Domain:
        """What an algorithm sees of the part of the space that these decisions span.

        As hints work, weights and depth of a network, which are known of every space.
        """
        free = [name for name in self.study.search.objectives if name != "accuracy"]
        reduce = canonical(self.curated.space if self.curated else self.space)

        def free_costs(codes: Codes) -> FreeCosts:
            costs = self.costs(self.embed(codes, decisions))
            return FreeCosts(np.stack([costs[name] for name in free], axis=1), violation(costs, self.limits))

        def hints(codes: Codes) -> Floats:
            full = self.embed(codes, decisions)
            costs, (most, fewest) = self.costs(full), depths(self.space, full).T
            # Deep networks are more expressive; short ways hand gradients on (He et al. 2016).
            return np.stack([costs["macs"], costs["parameters"], most, -fewest], axis=1)

        return Domain(
            tuple(len(self.offered[index]) for index in decisions),
            lambda codes: reduce(self._placed(codes, decisions))[:, list(decisions)],
            free_costs,
            hints,
        )

    def preflight(self, decisions: tuple[int, ...] | None = None) -> Preflight:
        """Ranges of all costs and the share of networks within the limits, over all or some decisions.

        Over what a search is offered; codes in it are those of the space.
        """
        chosen = decisions if decisions is not None else tuple(range(len(self.space.decisions)))
        exact = self._cheapest() if decisions is None else {}
        found = preflight(
            tuple(len(self.offered[index]) for index in chosen),
            lambda codes: self.costs(self.embed(codes, chosen)),
            self.limits,
            np.random.default_rng([self.study.seed, 2]),
            exact,
            self._sums() if decisions is None else {},
        )
        return found.recoded(lambda code: tuple(self.embed(np.asarray([code], np.int64), chosen)[0].tolist()))

    def _cheapest(self) -> dict[str, Codes]:
        """For every cost that is a sum of tables, the code (d,) that minimises it, where that can be found exactly."""
        if self.prepared.tables is None:
            return {}
        found: dict[str, Codes] = {}
        for name in SUMS:
            best = minimum(self.tables(name), tuple(map(len, self.offered)))
            if best.exact:
                found[name] = best.code
        return found

    def _sums(self) -> dict[str, list[tuple[tuple[int, ...], Floats]]]:
        """The tables of every cost that is a sum, none where they would be too large."""
        if self.prepared.tables is None:
            return {}
        return {name: [(table.axes, table.values) for table in self.tables(name)] for name in SUMS}

    def tables(self, cost: str) -> list[Table]:
        """Tables over what is offered whose sum is one of `SUMS`, none where they would be too large."""
        if self.prepared.tables is None:
            return []
        return [
            Table(axes, values[np.ix_(*(self.offered[axis] for axis in axes))])
            for axes, values in self.prepared.tables.tables(COLUMNS[cost])
        ]

    def require_satisfiable(self) -> None:
        """Raises `LimitImpossible` with the nearest feasible point when no network meets the limits on costs."""
        if not self.limits:
            return
        found = self.preflight()
        if found.feasible is not None:
            return
        broken = [name for name in self.limits if name in found.excess]
        best = {name: found.ranges[name].minimum for name in broken}
        wanted = ", ".join(f"{name} ≤ {amount(name, self.limits[name])}" for name in self.limits)
        nearest = self.costs(np.asarray([found.nearest]))
        parts = [
            f"{name} {amount(name, float(nearest[name][0]))} ({found.excess[name]:+.0%} over; alone it can reach "
            f"{amount(name, best[name])})"
            for name in broken
        ]
        known = any(found.ranges[name].exact and best[name] > self.limits[name] for name in broken)
        none = (
            "no network in this space meets" if known or found.sampled == found.size else "found no network that meets"
        )
        raise LimitImpossible(
            f"{none} {wanted}. The nearest has {', '.join(parts)}. Raise the limit, open "
            f"more decisions under [space]{', offer all options (curate = false)' if self.curated else ''}, or choose "
            "another target."
        )


def prepare(
    study: Study, progress: Callable[..., Any] | None = None, curation: Mapping[str, Any] | None = None
) -> Problem:
    """Loads the model and the target of a study, opens its decisions, curates them and prepares their costs.

    `progress` wraps what may take long (fitting an estimator for the first time); `curation` is what the journal of a
    run of this study keeps of its curation, so that it is not curated anew. Raises `InvalidInput` for what cannot be
    used, an estimator file of another target among it.
    """
    network = _network(study)
    target = load_target(study.target)
    space, members = opened(network.graph, study.opened)
    file = Path(study.estimator) if study.estimator is not None else None
    estimator = estimator_for(target, study.precision, file, **({"progress": progress} if progress else {}))
    prepared = estimator.prepare(space)
    return Problem(study, network, space, members, estimator, prepared, _curated(study, space, prepared, curation))


def _curated(study: Study, space: Graph, prepared: SpaceCosts, curation: Mapping[str, Any] | None) -> Curated | None:
    """What a study offers of its space, None where all of it."""
    if study.curation is None:
        return None
    if curation is not None:
        return Curated.of_json(space, curation)
    if prepared.tables is None:
        raise InvalidInput(
            f"space.curate: the tables of study {study.name} would be too large; open fewer decisions or larger steps"
        )
    return curate(space, prepared.tables, **study.curation.model_dump())


def reopen(summary: Summary, progress: Callable[..., Any] | None = None) -> Problem:
    """The study of a run made ready again, as `prepare` does.

    Raises `JournalMismatch` where the study's own estimator file is no longer the one that the run was made with.
    """
    problem = prepare(summary.study, progress, summary.notes.get("curation"))
    known = summary.provenance.get("estimator")
    if summary.study.estimator is not None and known is not None and known != problem.predicts:
        raise JournalMismatch(
            f"{summary.study.estimator} is not the estimator that {summary.directory} was made with; put that one back"
        )
    return problem


def _network(study: Study) -> Network:
    if study.model.startswith(MODEL):
        return Network(study.model, published(study.model).space(), {})
    return load(study.model, input_shape=study.input_shape, seed=study.seed, classes=study.classes)


def opened(graph: Graph, settings: Mapping[str, Any]) -> tuple[Graph, dict[str, tuple[int, ...]]]:
    """A space from a study's [space] section, and which decisions each edit opened.

    Raises `InvalidInput` where the graph has decisions of its own and the section does not say so, or the reverse.
    """
    own = {item.name for item in graph.decisions}
    if bool(own) != bool(settings.get(GIVEN, False)):
        there = f"has {len(own)} decisions of its own: set" if own else "has no decisions of its own: leave out"
        raise InvalidInput(f"space: the model {there} {GIVEN} = true")
    edits = {edit: options for edit, options in settings.items() if options is not False and edit != GIVEN}
    space = open_space(graph, edits)
    names = {edit: {item.name for item in open_space(graph, {edit: edits[edit]}).decisions} - own for edit in edits}
    names |= {GIVEN: own} if own else {}
    members = {
        edit: tuple(index for index, item in enumerate(space.decisions) if item.name in names[edit]) for edit in names
    }
    if missing := {item.name for item in space.decisions} - set().union(*names.values()):
        raise InvalidInput(f"space: decisions {sorted(missing)} appear only when edits are combined; open fewer edits")
    return space, members

"""A rule pack applied to a network by judgement: what it asks for, what each part brings here, what costs more here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.estimate.estimator import Estimator, SpaceCosts
from chipfit.expert.advice import Advice, Advised
from chipfit.expert.gains import Gain, Gains
from chipfit.expert.matching import Matched, matches
from chipfit.expert.rules import Rule, RulePack
from chipfit.expert.sets import ROUNDING
from chipfit.graph.canonical import canonical
from chipfit.graph.graph import Graph
from chipfit.nets.network import Network
from chipfit.targets.target import Target

Codes = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RuleGain:
    """A rule that matched: all that it asks for, by its id and those of its changes ("R2", "R2.1"), and what those of
    them that were taken bring by themselves. `left` and `fitting` are decisions that stay as they are. What several
    rules ask for alike is listed with the first of them."""

    id: str
    rule: Rule
    items: tuple[Advised, ...]
    taken: tuple[Advised, ...]
    gain: Gain
    left: tuple[str, ...]
    fitting: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Ruled:
    """What a pack brings to a network. The `advice` advises what was taken and leaves alone what costs more here;
    `rules` are those that matched, `unmatched` those that found no place, `elsewhere` those for other chips."""

    pack: RulePack
    advice: Advice
    rules: tuple[RuleGain, ...]
    unmatched: tuple[Rule, ...]
    elsewhere: tuple[Rule, ...]

    def code_of(self, names: Sequence[str]) -> tuple[int, ...]:
        """The code of rules and changes, by their ids or names, whether they pay or not. Raises `InvalidInput`."""
        wanted: list[str] = []
        for name in names:
            found = next((rule for rule in self.rules if rule.id == name), None)
            if found is not None and not found.items:
                raise InvalidInput(f"{name}: this rule asks for no change here, so there is nothing to apply")
            wanted += [name] if found is None else [item.id for item in found.items]
        return self.advice.code_of(wanted)


def advise_by_rules(network: Network, estimator: Estimator, pack: RulePack) -> Ruled:
    """What the rules of a pack bring to a closed network on the estimator's chip, without a search.

    All that the rules ask for is tried at once; then, as long as the network gets faster by it, the change that costs
    most is put back, or one that was put back is made after all. Raises what `matches` raises.
    """
    found = matches(pack, network.graph, estimator.target)
    prepared = estimator.prepare(found.changes.space)
    given = prepared.at(np.zeros((1, len(found.changes.space.decisions)), np.int64))
    gains = Gains(found.changes.space, prepared, given, estimator.by_layer(network.graph))
    code = canonical(found.changes.space)(_judged(prepared, np.ones(len(found.changes.known), np.int64))[None])[0]
    flipped = np.repeat(code[None], len(code), axis=0)
    np.fill_diagonal(flipped, 1 - code)
    within = gains.prepared.latency_s(np.concatenate([code[None], flipped])) / float(given.latency_s[0])
    alone = gains.of_each(np.eye(len(code), dtype=np.int64).tolist()) if len(code) else []
    rules: list[RuleGain] = []
    for index, rule in enumerate(pack.rule):
        own = [place for place, change in enumerate(found.changes.known) if found.rule_of[change.name] == index]
        left, fitting = found.left.get(index, ()), found.fitting.get(index, ())
        if index in found.unmatched or index in found.elsewhere:
            continue
        items = tuple(
            Advised(
                f"R{index + 1}.{number}", found.changes.known[place], alone[place],
                float(within[0] - within[place + 1]) * (1 if code[place] else -1), _why(bool(code[place])),
            )
            for number, place in enumerate(own, 1)
        )  # fmt: skip
        taken = tuple(item for item in items if code[item.change.decision])
        mine = [int(place in own and code[place]) for place in range(len(code))]
        rules.append(RuleGain(f"R{index + 1}", rule, items, taken, gains.of(mine), left, fitting))
    return Ruled(
        pack, _advice(network, estimator, found, gains, code, rules), tuple(rules),
        tuple(pack.rule[index] for index in found.unmatched), tuple(pack.rule[index] for index in found.elsewhere),
    )  # fmt: skip


def code_by_rules(given: Graph, space: Graph, prepared: SpaceCosts, target: Target, pack: RulePack) -> tuple[int, ...]:
    """What a pack asks for of a closed network, as a code of a space around it, without a search.

    What the space does not offer is left out, and so is, as in `advise_by_rules`, what costs more latency. Raises what
    `matches` raises, and `InvalidInput` where nothing is left.
    """
    found = matches(pack, given, target)
    places = {decision.name: place for place, decision in enumerate(space.decisions)}
    wanted = np.zeros(len(space.decisions), np.int64)
    for change in found.changes.known:
        decision = found.changes.space.decisions[change.decision]
        place = places.get(decision.name)
        if place is not None and decision.options[change.option] in space.decisions[place].options:
            wanted[place] = space.decisions[place].options.index(decision.options[change.option])
    code = canonical(space)(_judged(prepared, wanted)[None])[0]
    if not code.any():
        raise InvalidInput(
            f"rule pack {pack.name} asks for nothing that pays on {target.name} and that this space offers; open more "
            "under [space], or give another pack"
        )
    return tuple(code.tolist())


def _why(taken: bool) -> str:
    return "" if taken else "costs more here, or nothing is left of it beside the others"


def _advice(
    network: Network, estimator: Estimator, found: Matched, gains: Gains, code: Codes, rules: Sequence[RuleGain]
) -> Advice:
    items = [item for rule in rules for item in rule.items]
    taken = tuple(item for item in items if code[item.change.decision])
    left = tuple(item for item in items if not code[item.change.decision])
    plain = tuple(int(option) for option in code)
    return Advice(
        network=network,
        estimator=estimator,
        changes=found.changes,
        gains=gains,
        advised=taken,
        left=left,
        free=(),
        sacrifices=(),
        host=(),
        even=(),
        unchanged=(),
        code=plain,
        fastest=plain,
    )


def _judged(prepared: SpaceCosts, wanted: Codes) -> Codes:
    """What is wanted but that without which the network is faster: a set that no single change makes faster."""
    changed = np.flatnonzero(wanted)
    code = wanted.copy()
    lowest = float(prepared.latency_s(code[None])[0])
    while len(changed):
        tried = np.repeat(code[None], len(changed), axis=0)
        tried[np.arange(len(changed)), changed] = wanted[changed] - code[changed]
        found = prepared.latency_s(tried)
        best = int(found.argmin())
        if found[best] >= lowest * (1 - ROUNDING):
            return code
        code, lowest = tried[best], float(found[best])
    return code

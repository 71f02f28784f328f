"""Which rule of a pack sets which decision of a network on a chip; contradictions are found before anything is done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from chipfit.errors import InvalidInput
from chipfit.expert.changes import Carried, Change, Changes
from chipfit.expert.rules import LEAVE, Rule, RulePack, Scale
from chipfit.expert.sites import KINDS, WHOLE, Site, positions, site_of, sites, whole_site
from chipfit.graph.channels import channel_groups
from chipfit.graph.graph import Graph
from chipfit.graph.rewrite import restrict
from chipfit.graph.values import Choice
from chipfit.spaces.edits import open_space
from chipfit.spaces.sizes import DIVISOR
from chipfit.targets.target import Target

_EDITS: Mapping[str, str] = {"depthwise": "standard", "size": "input_size"}
"""Edits that are named otherwise than their decisions."""

_WHOLE: Mapping[str, str] = {"depth_multiplier": "depth_multiplier", "size": "input.size"}
"""Decisions on the whole network."""


KERNELS = (3, 5, 7)
"""Sizes that find the windows of a network where rules only leave them alone."""


@dataclass(frozen=True, slots=True)
class Matched:
    """What a pack says of a network on a chip.

    `changes` is a space with one decision of two options for every place that a rule would change, the network as given
    first; `rule_of` gives by the name of each of its changes the index of the rule. `left` gives by rule the decisions
    that it leaves alone, `fitting` those that are as it wants them. `unmatched` are rules that found no place,
    `elsewhere` those for other chips.
    """

    changes: Changes
    rule_of: Mapping[str, int]
    left: Mapping[int, tuple[str, ...]]
    fitting: Mapping[int, tuple[str, ...]]
    unmatched: tuple[int, ...]
    elsewhere: tuple[int, ...]


def matches(pack: RulePack, graph: Graph, target: Target) -> Matched:
    """What the rules of a pack say of a closed network on a chip, whether it pays or not.

    Raises `InvalidInput` for an open network, where two rules want different things of one place, and where no rule
    matches anything.
    """
    if graph.decisions:
        raise InvalidInput(f"rules are for one network, but {len(graph.decisions)} decisions are open; close it first")
    reader = _Reader(graph, target, {index: rule for index, rule in enumerate(pack.rule) if rule.chip.fits(target)})
    space = graph
    for kind in KINDS:
        if rules := {index: rule for index, rule in reader.rules.items() if rule.kind == kind}:
            space = reader.opened(space, kind, rules)
    reader.require_sense(pack)
    elsewhere = tuple(index for index in range(len(pack.rule)) if index not in reader.rules)
    unmatched = tuple(index for index in reader.rules if index not in reader.matched)
    known = tuple(reader.changes(space))
    rule_of = {change.name: reader.chosen[space.decisions[change.decision].name] for change in known}
    return Matched(Changes(space, known), rule_of, _tuples(reader.left), _tuples(reader.fitting), unmatched, elsewhere)


def _tuples(found: Mapping[int, Sequence[str]]) -> dict[int, tuple[str, ...]]:
    return {index: tuple(names) for index, names in found.items()}


@dataclass
class _Reader:
    """Reads rules for one network and chip, kind by kind, and keeps which rule wants what."""

    given: Graph
    target: Target
    rules: Mapping[int, Rule]
    chosen: dict[str, int] = field(default_factory=dict[str, int])
    left: dict[int, list[str]] = field(default_factory=dict[int, list[str]])
    fitting: dict[int, list[str]] = field(default_factory=dict[int, list[str]])
    matched: set[int] = field(default_factory=set[int])
    contradictions: list[str] = field(default_factory=list[str])

    @cached_property
    def _positions(self) -> dict[str, float]:
        return positions(self.given)

    def opened(self, space: Graph, kind: str, rules: Mapping[int, Rule]) -> Graph:
        """The space with those decisions of a kind that a rule would change, each with the option that it wants."""
        if kind == "width":
            return self._with_widths(space, rules)
        if kind in WHOLE:
            return self._with_whole(space, kind, rules)
        sizes = [rule.do for rule in rules.values() if isinstance(rule.do, int)] or KERNELS
        try:
            more = open_space(space, {_EDITS.get(kind, kind): sizes if kind == "kernel" else True})
        except InvalidInput:
            return space  # nothing of this kind is in the network: these rules match nothing
        before = {decision.name for decision in space.decisions}
        closed: dict[str, int] = {}
        kept: dict[str, list[int]] = {}
        for decision, site in zip(more.decisions, sites(self.given, more), strict=True):
            if decision.name not in before:
                value = self._decided(site, rules, decision.options[0], decision.options)
                if value is None:
                    closed[decision.name] = 0
                else:
                    kept[decision.name] = [0, next(o for o, known in enumerate(decision.options) if known == value)]
        return restrict(more, kept).bind(closed)

    def _with_widths(self, space: Graph, rules: Mapping[int, Rule]) -> Graph:
        """Widths of the channel groups that can change."""
        groups: dict[str, list[int]] = {}
        for group in channel_groups(space):
            if group.fixed is None and not isinstance(group.width, Choice) and group.name in self._positions:
                node = self.given.by_key[group.name]
                site = site_of(self.given, f"{group.name}.width", node, self._positions)
                value = self._decided(site, rules, int(group.width))
                if isinstance(value, int):
                    groups[group.name] = [value]
        return open_space(space, {"width": {"groups": groups}}) if groups else space

    def _with_whole(self, space: Graph, kind: str, rules: Mapping[int, Rule]) -> Graph:
        """The one decision of a kind that concerns the whole network; a multiplier goes with what it rounds to."""
        site = whole_site(self.given, _WHOLE[kind])
        if site.resolution is None and kind == "size":
            return space
        value = self._decided(site, rules, (1.0, 1) if kind == "depth_multiplier" else site.resolution)
        if value is None:
            return space
        options = {"multipliers": [value[0]], "divisor": value[1]} if isinstance(value, tuple) else [value]
        try:
            return open_space(space, {_EDITS.get(kind, kind): options})
        except InvalidInput:  # the network cannot be scaled in this way
            self.matched.discard(self.chosen.pop(site.decision))
            return space

    def _decided(
        self, site: Site, rules: Mapping[int, Rule], given: object, options: Sequence[object] | None = None
    ) -> object | None:
        """What rules want of a place, None where it stays as it is; keeps which rule said so. Without `options` there
        is no end of them."""
        wishes = {index: self._wish(rule, given) for index, rule in rules.items() if rule.where.fits(site)}
        wishes = {index: value for index, value in wishes.items() if options is None or value in options}
        self.matched.update(wishes)
        values = list(dict.fromkeys(wishes.values()))
        if len(values) > 1:
            said = (f"rule {self.rules[index].name!r} wants {_said(value, given)}" for index, value in wishes.items())
            self.contradictions.append(f"of {site.decision} {' and '.join(said)}")
        if len(values) != 1:
            return None
        if values[0] != given:
            self.chosen[site.decision] = next(iter(wishes))
            return values[0]
        for index in wishes:
            kept = self.left if self.rules[index].do == LEAVE else self.fitting
            kept.setdefault(index, []).append(site.decision)
        return None

    def _wish(self, rule: Rule, given: object) -> object:
        """The option that a rule wants where `given` is now."""
        if not isinstance(rule.do, Scale):
            return given if rule.do == LEAVE else rule.do
        if isinstance(given, int):
            return rule.do.of(given, self.target)
        return (rule.do.share, rule.do.step(self.target) if rule.do.multiple != 1 else DIVISOR)

    def require_sense(self, pack: RulePack) -> None:
        """Raises `InvalidInput` where rules contradict each other, and where none matched."""
        if self.contradictions:
            more = len(self.contradictions) - 1
            raise InvalidInput(
                f"rule pack {pack.name} contradicts itself: {self.contradictions[0]}"
                f"{f' (and {more} more)' if more else ''}; narrow `where` or `chip` of one of them"
            )
        if not self.matched:
            other = len(pack.rule) - len(self.rules)
            raise InvalidInput(
                f"rule pack {pack.name} matches nothing: none of its {len(pack.rule)} rules fits a place of this "
                f"network on {self.target.name}{f' ({other} are for other chips)' if other else ''}; give another "
                "pack, or widen `where` and `chip`"
            )

    def changes(self, space: Graph) -> Iterator[Change]:
        """What the rules would change, in words."""
        members = {f"{group.name}.width": group.producers for group in channel_groups(self.given)}
        kinds = {site.decision: site for site in sites(self.given, space)}
        for place, decision in enumerate(space.decisions):
            given, chosen = decision.options
            site = decision.name.rpartition(".")[0]
            found = tuple(key for key in members.get(decision.name, (site,)) if key in self.given.by_key)
            what, carried, risk = _words(kinds[decision.name].kind, given, chosen)
            where = found or (site or "the whole network",)
            yield Change(
                f"{decision.name}={chosen}", kinds[decision.name].kind, place, 1, where, what, carried, risk, False
            )


def _said(value: object, given: object) -> str:
    return "it left alone" if value == given else f"{value[0]:g}" if isinstance(value, tuple) else str(value)


def _words(kind: str, given: object, chosen: object) -> tuple[str, Carried, str]:
    """What an option does, what becomes of the weights, and what that means for accuracy."""
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind == "depth_multiplier":
        return f"all widths × {chosen}", "approximate", "channels pruned, retrain"
    if kind == "size":
        return f"input of {given} → {chosen} pixels", "approximate", "less detail, retrain"
    before, after = (float(str(given)), float(str(chosen))) if kind in ("width", "kernel") else (1.0, 0.0)
    risk = {"width": "new channels start unread", "kernel": "windows filled up with zeros"}
    if after > before:
        return f"{given} → {chosen} {_UNITS[kind]}", "exact", risk[kind]
    return f"{given} → {chosen} {_UNITS.get(kind, '')}".rstrip(), "approximate", "retrain"


_UNITS: Mapping[str, str] = {"width": "channels", "kernel": "window", "repeats": "blocks"}

_PLAIN: Mapping[str, tuple[str, Carried, str]] = {
    "fuse": ("fuse expansion and depthwise into one convolution", "approximate", "weights composed, retrain"),
    "merge": ("merge depthwise and 1×1 convolution into one", "approximate", "weights composed, retrain"),
    "depthwise": ("depthwise → standard convolution", "exact", "the same function"),
    "factor": ("one window → smaller ones in a row", "approximate", "weights factorised, retrain"),
    "earlier": ("halve the resolution earlier", "approximate", "less detail, retrain"),
}

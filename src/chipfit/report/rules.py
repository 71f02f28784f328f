"""What a rule pack brings to a network, and patterns of finished runs, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from chipfit.expert.sites import WHOLE
from chipfit.report.advice import gain_line, percent, signed
from chipfit.report.tables import estimate, grid, remark
from chipfit.report.words import listed, plain, plural, share

if TYPE_CHECKING:
    from chipfit.expert.advice import Advised
    from chipfit.expert.patterns import Mined, Pattern
    from chipfit.expert.ruled import Ruled, RuleGain
    from chipfit.expert.rules import Evidence, Rule

_VERDICTS = {"above": "recurs", "below": "avoided", "open": ""}


def ruled(name: str, found: Ruled) -> Group:
    """What the network costs, what each rule brings on this chip, what costs more here, and what matched nothing."""
    parts: list[RenderableType] = [estimate(name, found.advice.network, found.advice.estimator), Text()]
    parts.append(Text(f"Rules of {plain(found.pack.name)}: {plain(found.pack.description)}", style="bold"))
    for rule in found.rules:
        if rule.items:
            parts += _rule(rule)
    if any(rule.taken for rule in found.rules):
        parts.append(remark(["", f"all that is marked, at once: {gain_line(found.advice.together)}"], "bold"))
    else:
        parts.append(remark(["", "Nothing that they ask for pays on this chip."], "bold"))
    if any(len(rule.taken) < len(rule.items) for rule in found.rules):
        parts.append(remark(["not marked: costs more here beside the rest, or makes no difference beside it"]))
    parts.append(remark(_stays(found)))
    ids = ",".join(rule.id for rule in found.rules if rule.taken) or "IDS"
    if any(rule.items for rule in found.rules):
        target = found.advice.estimator.target.name
        parts.append(
            remark([f"next: chipfit advise {name} --target {target} --rules PACK --out FILE (some: --apply {ids})"])
        )
    return Group(*parts)


def _rule(rule: RuleGain) -> list[RenderableType]:
    """A rule and the changes that it asks for, those that were taken marked."""
    texts = {item.change.what for item in rule.items}
    what = f": {texts.pop()}" if len(texts) == 1 else ""
    head = f"{rule.id} {plain(rule.rule.name)}{what} ({evidence(rule.rule.evidence)})"
    shown = grid("", "alone", "in the set", "weights", "peak RAM", "accuracy", left=(0, 5))
    for item in rule.items:
        site = _site(item) if what else f"{_site(item)}: {item.change.what}"
        gain = item.alone
        shown.add_row(
            Text(f"{'✓' if item in rule.taken else ' '} {item.id} {site}"), signed(gain), percent(item.within),
            percent(gain.weights), percent(gain.peak), Text(item.change.risk),
        )  # fmt: skip
    if len(rule.taken) > 1:
        gain = rule.gain
        shown.add_row(
            Text("all of these marked"), signed(gain), "", percent(gain.weights), percent(gain.peak), "", style="bold"
        )
    return [Text(), Text(head, style="bold"), shown]


def _site(item: Advised) -> str:
    return plain(item.change.name.rpartition("=")[0].rpartition(".")[0] or item.change.where[0])


def _stays(found: Ruled) -> list[str]:
    """What stays as it is, and why."""
    lines = [
        f"{rule.id} {plain(rule.rule.name)} ({evidence(rule.rule.evidence)}): {listed(_plain(rule.left))} stay"
        for rule in found.rules
        if rule.left
    ]
    lines += [
        f"{rule.id} {plain(rule.rule.name)}: finds {plural(len(rule.fitting), 'place')} as it wants them"
        for rule in found.rules
        if rule.fitting and not rule.items
    ]
    lines += [
        f"{rule.id} {plain(rule.rule.name)}: asks for what rules before it ask for"
        for rule in found.rules
        if not (rule.items or rule.left or rule.fitting)
    ]
    for rules, why in ((found.unmatched, "matches nothing here"), (found.elsewhere, "is for other chips")):
        lines += [f"{plain(rule.name)}: {why}" for rule in rules]
    return lines


def _plain(names: Sequence[str]) -> list[str]:
    return [plain(name) for name in names]


def evidence(known: Evidence) -> str:
    """Where a rule is from, in a few words."""
    if known.by == "hand" or known.best is None or known.offered is None:
        return "written by hand" if known.by == "hand" else "mined"
    data = listed([plain(name) for name in dict.fromkeys(seen.data for seen in known.seen)])
    return f"in {share(known.best, 0)} of {known.candidates} best, offered {share(known.offered, 0)} ({data})"


def patterns(tables: Sequence[Mined], rules: Sequence[Rule]) -> Group:
    """Which options recur among the best, by each way to sort places, and the rules that follow from the first."""
    first = tables[0]
    lines = [
        f"{plural(first.candidates, 'best candidate')} of {plural(first.trials, 'network')} that "
        f"{plural(len(first.runs), 'run')} tried: the best quarter of each search, within its limits"
    ]
    parts: list[RenderableType] = [remark(lines, "bold")]
    for mined in tables:
        title = f"by {' and '.join(mined.axes)}"
        shown = grid(
            title, "option", "offered", "among best", "interval", "of", "", "more than offered on", left=(0, 1, 6, 7)
        )
        for pattern in mined.patterns:
            if mined is first or pattern.kind not in WHOLE:
                shown.add_row(*_row(pattern), style="bold" if pattern.verdict == "above" else "")
        parts += [Text(), shown]
    sure = share(first.confidence, 0)
    parts.append(remark(["", f"intervals (Wilson): all of a table hold with {sure}"]))
    if rules:
        parts.append(remark([f"rule: {rule.name} ({evidence(rule.evidence)})" for rule in rules], "bold green"))
    else:
        none = "No rule: nothing stands out beyond chance. More trials or more runs narrow the intervals."
        parts.append(remark([none], "bold yellow"))
    return Group(*parts)


def _row(pattern: Pattern) -> tuple[str, ...]:
    low, high = pattern.interval
    place = pattern.kind if pattern.kind in WHOLE else f"{pattern.kind}, {pattern.where}"
    option = f"× {pattern.option:g}" if isinstance(pattern.option, float) else str(pattern.option)
    recurs = listed([f"{plain(seen.data)} on {plain(seen.target)}" for seen in pattern.recurs_on], 2)
    return (
        place, plain(option), share(pattern.offered, 0), share(pattern.best, 0), f"{100 * low:.0f}–{100 * high:.0f} %",
        str(pattern.candidates), _VERDICTS[pattern.verdict], recurs,
    )  # fmt: skip

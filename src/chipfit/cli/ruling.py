"""Commands around expert rules: patterns of finished runs, and a rule pack applied to a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chipfit.cli.advised import advice_json, gain_json
from chipfit.cli.options import Json
from chipfit.cli.output import detail_of, figure, people, print_json

if TYPE_CHECKING:
    from chipfit.estimate.estimator import Estimator
    from chipfit.expert.patterns import Mined, Pattern
    from chipfit.expert.ruled import Ruled, RuleGain
    from chipfit.expert.rules import Rule
    from chipfit.nets.network import Network


def by_rules(
    model: str, network: Network, used: Estimator, pack: str, apply: str | None, out: Path | None, json: bool
) -> None:
    """`chipfit advise --rules`: what the rules bring here, and the network that they make."""
    from chipfit.errors import InvalidInput
    from chipfit.expert.apply import apply as applied_to
    from chipfit.expert.ruled import advise_by_rules
    from chipfit.expert.rules import load_pack
    from chipfit.report import advice, rules

    found = advise_by_rules(network, used, load_pack(pack))
    chosen = apply is not None and apply != "all"
    names = [name.strip() for name in (apply or "").split(",") if name.strip()]
    code = found.code_of(names) if chosen else found.advice.code
    if out is not None and not any(code):
        raise InvalidInput(
            f"nothing that rule pack {found.pack.name} asks for pays on {used.target.name}, so nothing was written; "
            "--apply with ids makes changes all the same"
        )
    made = applied_to(found.advice, code, out) if out is not None else None
    if json:
        print_json(advice_json(model, found.advice, None, made) | {"rules": _rules_json(found)})
        return
    if apply is None:
        people().print(rules.ruled(model, found))
    if made is not None:
        people().print(advice.applied(made))


def _rules_json(found: Ruled) -> dict[str, Any]:
    detail = detail_of(found.advice.estimator)
    return {
        "pack": found.pack.name,
        "matched": [_rule_json(rule, detail) for rule in found.rules],
        "unmatched": [rule.name for rule in found.unmatched],
        "for_other_chips": [rule.name for rule in found.elsewhere],
    }


def _rule_json(rule: RuleGain, detail: str) -> dict[str, Any]:

    return {
        "id": rule.id,
        **rule.rule.model_dump(mode="json", exclude_defaults=True),
        "changes": {item.id: item.change.name for item in rule.items},
        "taken": [item.id for item in rule.taken],
        "left": list(rule.left),
        "fitting": list(rule.fitting),
        **gain_json(rule.gain, detail),
    }


def patterns(
    runs: Annotated[list[Path], typer.Argument(help="Run directories of finished searches.")],
    by: Annotated[
        str, typer.Option(help="What rules sort places by: position, resolution, width, or several with commas.")
    ] = "position",
    out: Annotated[Path | None, typer.Option(help="Where to write the rules: a .toml file.")] = None,
    json: Json = False,
) -> None:
    """Which decisions recur among the best candidates of finished runs, and rules for networks to come."""
    from chipfit.errors import InvalidInput
    from chipfit.expert.mined_rules import recurring, rule_pack
    from chipfit.expert.patterns import AXES, mine
    from chipfit.expert.rules import write_pack
    from chipfit.report import rules as report
    from chipfit.run.searches import searches
    from chipfit.run.summary import summarise

    if len({run.resolve() for run in runs}) < len(runs):
        raise InvalidInput("a run is given twice and would count twice; give each once")
    found = [search for run in runs for search in searches(summarise(run))]
    axes = tuple(axis.strip() for axis in by.split(","))
    mined = mine(found, axes)
    pack = rule_pack(mined, out.stem if out is not None else "mined") if out is not None or recurring(mined) else None
    if pack is not None and out is not None:
        write_pack(out, pack)
    rules = pack.rule if pack is not None else ()
    if json:
        print_json(_patterns_json(mined, rules))
        return
    tables = [mined, *(mine(found, (axis,)) for axis in AXES if axes != (axis,))]
    people().print(report.patterns(tables, rules))
    if out is not None:
        people().print(f"  wrote {out}; read it, then: chipfit advise MODEL --target T --rules {out}", highlight=False)


def _patterns_json(mined: Mined, rules: tuple[Rule, ...]) -> dict[str, Any]:
    import chipfit

    return {
        "chipfit": chipfit.__version__,
        "runs": list(mined.runs),
        "by": list(mined.axes),
        "trials": mined.trials,
        "candidates": mined.candidates,
        "confidence": mined.confidence,
        "comparisons": mined.comparisons,
        "patterns": [_pattern_json(pattern) for pattern in mined.patterns],
        "rules": [rule.model_dump(mode="json", exclude_defaults=True) for rule in rules],
    }


def _pattern_json(pattern: Pattern) -> dict[str, Any]:
    return {
        "kind": pattern.kind,
        "where": pattern.where.model_dump(mode="json", exclude_none=True),
        "option": pattern.option,
        "trials": pattern.trials,
        "offered": figure(pattern.offered, "counted"),
        "candidates": pattern.candidates,
        "best": figure(pattern.best, "counted", interval=list(pattern.interval)),
        "verdict": pattern.verdict,
        "recurs_on": [{"data": seen.data, "target": seen.target} for seen in pattern.recurs_on],
        "seen": [seen.model_dump(mode="json") for seen in pattern.seen],
    }

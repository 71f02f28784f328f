"""Advice beside `mlia check`: how long both take on trained int8 files, and what is said of the layers that mlia names.

    python -m venv mlia && mlia/bin/pip install mlia-ethos-u ethos-u-vela
    python benchmarks/mlia.py mlia/bin/mlia                            (about a minute; nothing is drawn at random)

mlia compiles the file with Vela and names the layers with most cycles, those of them that use the array badly and those
that may be memory bound. Both run as whole processes on ethos-u55-256, in turn; the least of the times counts, as the
machine may be busy with other things. For each layer that mlia names stands what advice says of it: a change with its
gain, or the best that was tried and why it does not pay.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import chipfit
from chipfit.expert.advice import Advice
from chipfit.expert.unchanged import concerned
from chipfit.graph.channels import channels

DATA = Path(os.environ.get("CHIPFIT_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
TARGET = "ethos-u55-256"
REPEATS = 5
CHIPFIT = (sys.executable, "-c", "from chipfit.cli.main import main; main()")
SIGNS = {"majority of operator cycles": "slow", "low MAC utilization": "badly used", "memory bound": "memory bound"}
"""What mlia says of layers, and what that is called here."""


@dataclass(frozen=True)
class Named:
    """A layer that mlia names: its tensor, its share of the cycles and its use of the array, in %, and what is said."""

    tensor: str
    share: float
    utilisation: float
    signs: tuple[str, ...]


def seconds(command: Sequence[str | Path], folder: str) -> float:
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def named(report: dict[str, Any]) -> list[Named]:
    """The layers that a report of mlia names in its warnings, in the order of their cycles."""
    result = report["results"][0]
    tensors = {item["id"]: item["attributes"]["layer_name"].partition(";")[0] for item in result["entities"]}
    figures: dict[str, dict[str, float]] = {}
    for item in result["breakdowns"]:
        values = {metric["name"]: metric["value"] for metric in item["metrics"]}
        # Operators that were folded into others come again, with no cycles.
        if values["op_cycles"]:
            figures[item["entity_id"]] = values
    signs: dict[str, list[str]] = {}
    for item in result["advice"]:
        sign = next((name for text, name in SIGNS.items() if text in item["message"]), None)
        for entity in re.findall(r"\((source_operator/operator/\d+)\)", item["message"]) if sign else ():
            signs.setdefault(entity, []).append(sign)  # type: ignore[arg-type]
    return [
        Named(
            tensors[entity],
            figures[entity]["op_cycles_network_percentage"],
            figures[entity]["util_mac_percentage"],
            tuple(found),
        )
        for entity, found in signs.items()
    ]


def said(found: Advice, tensor: str) -> tuple[str, str]:
    """What advice says of the layer that gives a tensor: "change", "reason" or "nothing", and in words."""
    graph = found.network.graph
    layers = [layer for layer in found.gains.layers if layer.name == tensor or layer.name.startswith(f"{tensor}.")]
    for layer in layers:
        places = concerned(layer, graph, found.changes, channels(graph))
        for item in found.advised:
            if found.changes.known.index(item.change) in places:
                return "change", f"{item.id} {item.change.what}: {item.alone.latency:+.1%}"
        for item in found.unchanged:
            if item.layer.name == layer.name:
                tried = [f"{each.change.what}: {each.gain.latency:+.1%}, {each.why_not}" for each in item.tried]
                return "reason", (tried or list(item.held))[0]
    return "nothing", "not among the layers that advice looks at"


def compare(mlia: Path, model: Path) -> None:
    check = (mlia, "check", model, "--target-profile", TARGET, "--performance")
    advise = (*CHIPFIT, "advise", model, "--target", TARGET)
    with tempfile.TemporaryDirectory() as folder:
        times = [(seconds(advise, folder), seconds((*check, "--compatibility"), folder)) for _ in range(REPEATS)]
        run = subprocess.run((*check, "--json"), cwd=folder, check=True, capture_output=True)
    report = json.loads(run.stdout)
    ours, theirs = (min(column) for column in zip(*times, strict=True))
    ratios = sorted(a / b for a, b in times)
    print(
        f"{model.name}: chipfit advise takes {ours / theirs:.2f} times as long as mlia {report['tool']['version']} "
        f"(least of {REPEATS}; median of the pairs {ratios[REPEATS // 2]:.2f})"
    )
    found = chipfit.advise(chipfit.load(model), chipfit.target(TARGET))
    told = {"change": 0, "reason": 0, "nothing": 0}
    for layer in named(report):
        kind, text = said(found, layer.tensor)
        told[kind] += 1
        print(
            f"  {layer.tensor[-44:]:44s} {layer.share:5.1f} % of cycles, {layer.utilisation:3.0f} % busy  "
            f"{', '.join(layer.signs):32s} {text}"
        )
    print(
        f"  layers named: {sum(told.values())}; with a change {told['change']}, with the reason why none pays "
        f"{told['reason']}, with neither {told['nothing']}; all advised changes: {found.together.latency:+.1%}",
        flush=True,
    )


def main() -> None:
    models = sorted((DATA / "models").glob("*.tflite"))
    if not models:
        print(f"no models in {DATA / 'models'}: set CHIPFIT_TEST_DATA to a folder that has them")
        return
    mlia = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else None
    if mlia is None or not mlia.is_file():
        print("give the path of the mlia command, from an environment of its own (see the head of this file)")
        return
    for model in models:
        compare(mlia, model)


if __name__ == "__main__":
    main()

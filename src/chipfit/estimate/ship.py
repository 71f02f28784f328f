"""Fits the estimators that the package ships: `python -m chipfit.estimate.ship [TARGET …]`.

It is due after any change of targets, features or tools; a test says so for described targets. Without names it fits
all of these, and of the others those that ship already.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from chipfit.estimate.fit import fit
from chipfit.estimate.store import save_estimator, shipped_name
from chipfit.measure.tools import tool_for
from chipfit.targets import load_target, shipped_targets


def main(names: list[str]) -> None:
    """Writes one file per target, at its default precision, next to this module."""
    folder = Path(__file__).parent / "data"
    targets = [load_target(name) for name in names] or [
        target
        for target in shipped_targets()
        if target.tool is None or (folder / shipped_name(target, target.default_precision)).is_file()
    ]
    for target in targets:
        start = time.monotonic()
        estimator = fit(target, tool_for(target))
        save_estimator(folder / shipped_name(target, target.default_precision), estimator)
        took = time.monotonic() - start
        if found := estimator.provenance.network_errors:
            print(
                f"{target.name}: {estimator.provenance.subgraphs} subgraphs in {took:.0f} s; {found.count} networks, "
                f"median error {found.median:.4%}, largest {found.largest:.4%}",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])

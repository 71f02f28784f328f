"""Fits the estimators that the package ships: `python -m chipfit.estimate.ship`, after any change of targets, features
or simulator. A test says when that is due."""

from __future__ import annotations

from pathlib import Path

from chipfit.estimate.fit import fit
from chipfit.estimate.store import save_estimator, shipped_name
from chipfit.measure.tools import tool_for
from chipfit.targets import shipped_targets


def main() -> None:
    """Writes one file per shipped target, at its default precision, next to this module."""
    folder = Path(__file__).parent / "data"
    for target in shipped_targets():
        estimator = fit(target, tool_for(target))
        save_estimator(folder / shipped_name(target, target.default_precision), estimator)
        if found := estimator.provenance.network_errors:
            print(
                f"{target.name}: {found.count} networks, median error {found.median:.4%}, largest {found.largest:.4%}"
            )


if __name__ == "__main__":
    main()

"""Estimators as files: one JSON file each, numbers compressed, no pickle; and the estimator of a target by default."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import zlib
from dataclasses import fields, replace
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from chipfit import __version__
from chipfit.errors import InvalidInput
from chipfit.estimate.calibration import Calibration
from chipfit.estimate.estimator import Errors, Estimator, Provenance
from chipfit.estimate.features import TERMS
from chipfit.estimate.forest import Forest
from chipfit.estimate.regress import Regression
from chipfit.estimate.rows import RANGE_FIELDS
from chipfit.files import cache_directory, write_whole
from chipfit.graph.workload import WORKLOAD_FIELDS, WORKLOAD_KINDS
from chipfit.measure.measurement import Source
from chipfit.targets.target import Target

FORMAT = "chipfit estimator"
VERSION = 1
"""Raised whenever the features or the layout change: older files are then refused, never misread."""
CALIBRATED = "1 calibrated"
"""In place of the version where the file holds a calibration, which programs that know none must not leave out."""

_LAYOUT = hashlib.sha256(repr((WORKLOAD_KINDS, WORKLOAD_FIELDS, TERMS, RANGE_FIELDS)).encode()).hexdigest()[:16]
_FORESTS = ("latency_trees", "energy_trees", "spread_trees")
_TYPES = ("<f8", "<f4", "<i2")


def save_estimator(path: Path, estimator: Estimator) -> None:
    """Writes an estimator as one file, whole or not at all. Raises `StorageFull` or `InvalidInput`."""
    content = _content(estimator)
    version = VERSION if estimator.calibration is None else CALIBRATED
    head = {"format": FORMAT, "version": version, "layout": _LAYOUT, "digest": _digest(content)}
    write_whole(path, json.dumps(head | {"content": content}, indent=1).encode())


def estimator_digest(estimator: Estimator) -> str:
    """A hash of all that an estimator predicts from, equal for one that was saved and read back."""
    return _digest(json.loads(json.dumps(_content(estimator))))


def _content(estimator: Estimator) -> dict[str, Any]:
    content = {
        "target": estimator.target.model_dump(mode="json"),
        "precision": estimator.precision_name,
        "systematic": estimator.systematic,
        "provenance": estimator.provenance.as_json(),
        "regression": {name: _packed(values) for name, values in _arrays(estimator.regression).items()},
    }
    if estimator.calibration is not None:
        content["calibration"] = estimator.calibration.as_json()
    return content


def load_estimator(path: Path | Traversable) -> Estimator:
    """The estimator of a file.

    Raises `InvalidInput` for a file that cannot be read, is damaged, is something else, or was written by another
    version.
    """
    where = path.name
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except ValueError:
        raise InvalidInput(f"{where}: not an estimator, or cut short (no valid JSON); fit it again") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InvalidInput(f"{where}: not an estimator that chipfit wrote; `chipfit fit` writes one")
    if data.get("version") not in (VERSION, CALIBRATED) or data.get("layout") != _LAYOUT:
        raise InvalidInput(f"{where}: written by another version of chipfit (this is {__version__}); fit it again")
    content = data.get("content")
    if not isinstance(content, dict) or data.get("digest") != _digest(content):
        raise InvalidInput(f"{where}: damaged (its digest does not match); fit it again or copy it anew")
    try:
        return _estimator(content)
    except (KeyError, TypeError, ValueError, ValidationError, zlib.error, binascii.Error) as error:
        raise InvalidInput(f"{where}: damaged ({type(error).__name__}: {error}); fit it again") from None


def estimator_for(
    target: Target, precision: str | None = None, file: Path | None = None, progress: Any = iter
) -> Estimator:
    """The estimator of a file, which must be of this target and precision; without one the target's own by default.

    Raises `InvalidInput` as `load_estimator` does, and where the file is of another target or precision.
    """
    if file is None:
        return default_estimator(target, precision, progress=progress)
    found = load_estimator(file)
    if found.target.digest != target.digest or not _covers(found, target):
        changed = " as it is described now" if found.target.name == target.name else ""
        raise InvalidInput(
            f"{file} was fitted for {found.target.name}, not for {target.name}{changed}; fit one for this target"
        )
    if precision not in (None, found.precision_name):
        raise InvalidInput(f"{file} predicts {found.precision_name}, not {precision}; fit one for this precision")
    return replace(found, target=target)


def default_estimator(target: Target, precision: str | None = None, progress: Any = iter) -> Estimator:
    """The estimator of a target from its tool: the one that ships, else a cached one, else fitted and cached now.

    `progress` wraps the steps of a fit. A file counts only if it was fitted for the same figures of the target, by the
    same version of the simulator where it is simulated; a cached file that is damaged is fitted anew.
    """
    from chipfit.estimate.fit import fit
    from chipfit.measure.tools import tool_for

    name = precision or target.default_precision
    target.precision(name)
    shipped = files("chipfit.estimate") / "data" / shipped_name(target, name)
    if shipped.is_file() and _fits(found := load_estimator(shipped), target, name):
        return replace(found, target=target)
    cached = cache_directory() / f"estimator-{target.name}-{name}-{target.digest[:12]}-{__version__}-{VERSION}.json"
    if cached.is_file():
        try:
            found = load_estimator(cached)
        except InvalidInput:
            found = None
        if found is not None and _fits(found, target, name):
            return replace(found, target=target)
    found = fit(target, tool_for(target, name), precision=name, progress=progress)
    save_estimator(cached, found)
    return found


def shipped_name(target: Target, precision: str) -> str:
    """File name of a shipped estimator."""
    return f"{target.name}-{precision}.json"


def _fits(estimator: Estimator, target: Target, precision: str) -> bool:
    same = estimator.target.digest == target.digest and estimator.precision_name == precision
    same = same and _covers(estimator, target)
    # A simulation is as old as the simulator; what a tool measured stays as it is, and says which version it was.
    return same and (target.tool is not None or estimator.provenance.source.version == __version__)


def _covers(estimator: Estimator, target: Target) -> bool:
    """Whether an estimator was fitted to all that a target runs: it may know more."""
    return estimator.target.unsupported <= target.unsupported


def _arrays(regression: Regression) -> dict[str, NDArray[Any]]:
    """Every array by name; those of forests as "forest.array"."""
    found: dict[str, NDArray[Any]] = {}
    for item in fields(Regression):
        value = getattr(regression, item.name)
        if isinstance(value, Forest):
            found |= {f"{item.name}.{part.name}": getattr(value, part.name) for part in fields(Forest)}
        else:
            found[item.name] = value
    return found


def _estimator(content: dict[str, Any]) -> Estimator:
    arrays = {name: _unpacked(packed) for name, packed in content["regression"].items()}
    latency, energy, spread = (Forest(*(arrays[f"{name}.{part.name}"] for part in fields(Forest))) for name in _FORESTS)
    regression = Regression(arrays["pieces"], arrays["energy"], latency, energy, spread, arrays["low"], arrays["high"])
    given = content["provenance"]
    provenance = Provenance(
        Source(**given["source"]),
        given["fitted"],
        given["seed"],
        given["counts"],
        {kind: Errors(**each) for kind, each in given["subgraph_errors"].items()},
        Errors(**given["network_errors"]) if given["network_errors"] else None,
    )
    target = Target.model_validate(content["target"])
    target.precision(content["precision"])
    calibration = Calibration.from_json(content["calibration"]) if "calibration" in content else None
    return Estimator(target, content["precision"], regression, float(content["systematic"]), provenance, calibration)


def _packed(values: NDArray[Any]) -> dict[str, Any]:
    values = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    data = base64.b64encode(zlib.compress(values.tobytes(), 9)).decode()
    return {"type": values.dtype.str, "shape": list(values.shape), "data": data}


def _unpacked(packed: dict[str, Any]) -> NDArray[Any]:
    if packed["type"] not in _TYPES:
        raise ValueError(f"array type {packed['type']!r}")
    raw = zlib.decompress(base64.b64decode(packed["data"], validate=True))
    return np.frombuffer(raw, dtype=packed["type"]).reshape(packed["shape"])


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

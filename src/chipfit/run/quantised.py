"""What is delivered in the end: int8 files of the networks that were trained in full, run on the test split.

Chips of 8 bits run these files, so their accuracy, weights and memory are what counts. The journal keeps what was found
file by file; a file that could not be written or run is tried again when the run is taken up again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from chipfit.errors import InvalidInput
from chipfit.estimate.check import check
from chipfit.files import remove_partials
from chipfit.measure.vela import installed
from chipfit.run.delivered import INT8, Quantised, known_files
from chipfit.run.jobs import Progress, Quantising
from chipfit.run.problem import COLUMNS, ROUNDING, Problem
from chipfit.targets.target import Vela

if TYPE_CHECKING:
    from chipfit.estimate.estimator import Estimator
    from chipfit.nets.network import Network
    from chipfit.run.journal import Journal, Trial
    from chipfit.run.workers import Workers

BITS = 8


def delivers_int8(problem: Problem) -> bool:
    """Whether the results of a study are int8 files: chipfit trains, and the chip computes in 8 bits."""
    precision = problem.estimator.precision
    return problem.study.accuracy is None and precision.weight_bits == precision.activation_bits == BITS


def int8_file(directory: Path, number: int) -> Path:
    """Where the int8 file of a trial is in a run directory."""
    return directory / INT8 / f"trial{number:04d}.tflite"


def quantise(problem: Problem, journal: Journal, pool: Workers, trials: Sequence[Trial]) -> Iterator[Progress]:
    """Writes and runs the int8 files of trained trials that the journal does not know yet, and keeps the results.

    Yields one event for each that is there, with the accuracy on the test split. Raises `StorageFull`.
    """
    known = known_files(journal)
    remove_partials(journal.directory / INT8)
    jobs: list[Quantising] = []
    for trial in trials:
        file = int8_file(journal.directory, trial.number)
        if trial.number in known and known[trial.number].ran:
            yield _told(known[trial.number])
            continue
        weights = journal.weights_file(trial.number)
        jobs.append(Quantising(trial.number, trial.code, weights, file, problem.study.threads))
    for event in pool.run(jobs):
        if not isinstance(event, Quantised):
            continue  # late news of the training that the trial's number is known by
        file = int8_file(journal.directory, event.number)
        found = event if event.found is None else _counted(problem, event, file)
        known[found.number] = found
        journal.note(INT8, json.dumps({str(number): asdict(each) for number, each in sorted(known.items())}))
        yield _told(found)


def _counted(problem: Problem, found: Quantised, file: Path) -> Quantised:
    """The same with what the written file costs, and the limits that it does not hold."""
    from chipfit.nets.load import load

    network = load(file)
    estimated = problem.estimator.costs(network)
    costs = {name: float(getattr(estimated, column)[0]) for name, column in COLUMNS.items()}
    broken = tuple(name for name, limit in problem.limits.items() if costs[name] > limit * (1 + ROUNDING))
    compiled_s, compiler = _compiled(problem.estimator, network)
    return replace(found, costs=costs, broken=broken, compiled_s=compiled_s, compiler=compiler)


def _compiled(estimator: Estimator, network: Network) -> tuple[float | None, str]:
    """The latency of a file by the chip's own compiler, with its name; None with the reason where it cannot say."""
    if not isinstance(estimator.target.tool, Vela) or installed() is None:
        return None, ""
    try:
        found = check(estimator, network)
    except InvalidInput as error:
        return None, str(error)
    if found.elsewhere:
        return None, f"{len(found.elsewhere)} subgraphs run on the host's processor"
    return found.measured.latency_s, f"{found.measured.source.tool} {found.measured.source.version}"


def _told(found: Quantised) -> Progress:
    metric = found.found.integer[found.found.metric] if found.found is not None and found.ran else float("nan")
    return Progress(found.number, 1, 1, metric)

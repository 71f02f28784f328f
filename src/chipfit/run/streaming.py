"""What networks over frames cost on a stream of sound, and how long after a sound their answer is there.

A step is estimated as the network on the frames of one step: it does just the multiply-accumulates that a step takes
where the latest inputs of every convolution are kept, and sets up every operator once. That moving what is kept takes
time as well is left out. Where nothing is kept, as in the files that chipfit writes, the network is run anew on all
frames that an output depends on: that is estimated too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from chipfit.nets.streaming import stream_of, with_frames
from chipfit.run.delivered import STREAMING, Streamed
from chipfit.tasks.speech import Speech

if TYPE_CHECKING:
    from chipfit.estimate.estimator import Estimator
    from chipfit.graph.graph import Graph
    from chipfit.run.journal import Journal, Trial
    from chipfit.run.problem import Problem
    from chipfit.tasks.task import Task


def streamed(graph: Graph, estimator: Estimator, hop_s: float, window_s: float) -> Streamed | None:
    """A closed network on a stream of frames every `hop_s`, each a window of `window_s`; None where it is not one."""
    stream = stream_of(graph)
    if stream is None:
        return None
    # All frames of the window, in whole steps.
    frames = -(-stream.window // stream.step) * stream.step
    costs = [estimator.costs(with_frames(graph, count)) for count in (stream.step, frames)]
    compute, anew = (float(each.latency_s[0]) for each in costs)
    return Streamed(stream.step * hop_s, compute, anew, stream.wait * hop_s + window_s)


def keep_streamed(problem: Problem, journal: Journal, task: Task | None, trials: Sequence[Trial]) -> None:
    """Notes in the journal what the networks of trials cost on a stream, where they recognise speech."""
    if not isinstance(task, Speech) or journal.about(STREAMING) is not None:
        return
    hop_s, window_s = task.features.hop_s, task.features.window_s
    found = {
        trial.number: streamed(problem.space.close(trial.code), problem.estimator, hop_s, window_s) for trial in trials
    }
    journal.note(
        STREAMING, json.dumps({str(number): asdict(each) for number, each in found.items() if each is not None})
    )

"""LiteRT's profiler: the same operators in every call, in the order of the file; unknown versions are not asked."""

import numpy as np
import pytest

from chipfit.errors import MissingDependency
from chipfit.graph.build import Builder
from chipfit.measure.board_runner import CannotRun
from chipfit.measure.litert_profiler import KNOWN_VERSIONS, PACKAGE, known_version, profiled
from chipfit.measure.runtimes import drawn
from chipfit.measure.specimen import ranges_of
from chipfit.nets.tflite.exporter import tflite_model

pytest.importorskip("ai_edge_litert")


def model() -> bytes:
    b = Builder()
    x = b.conv(b.input("input", (1, 8, 16, 16)), 16, kernel=3, key="first")
    x = b.conv(b.activation(x, "hard_swish", key="act"), 8, key="second")
    graph = b.graph(x)
    return tflite_model(drawn(graph, 40.0, 0), ranges_of(graph))


def test_every_call_tells_of_the_same_operators() -> None:
    with profiled(model(), [np.zeros((1, 16, 16, 8), np.int8)], 1) as call:
        first, second = call(), call()
    assert [(event.tag, event.place) for event in first] == [(event.tag, event.place) for event in second]
    assert [event.place for event in first] == [None, 1, None]
    assert first[1].tag == "HARD_SWISH"


def test_many_files_one_after_the_other_leave_no_trace() -> None:
    resource = pytest.importorskip("resource")
    file, inputs = model(), [np.zeros((1, 16, 16, 8), np.int8)]

    def peak_kib() -> int:
        for _ in range(25):
            with profiled(file, inputs, 1) as call:
                call()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    peak_kib()
    before = peak_kib()
    # A file that stays would leave its arena and packed weights, some 100 KiB.
    assert peak_kib() - before < 25 * 20


def test_inputs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(CannotRun, match="2048 bytes, not 512"), profiled(model(), [np.zeros(512, np.int8)], 1):
        pass


@pytest.mark.parametrize(("package", "version"), [(PACKAGE, "1.0"), ("tflite-runtime", KNOWN_VERSIONS[-1])])
def test_only_known_versions_are_asked(package: str, version: str) -> None:
    known_version(PACKAGE, KNOWN_VERSIONS[-1])
    with pytest.raises(MissingDependency, match=f"here is {package} {version}"):
        known_version(package, version)

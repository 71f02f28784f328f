import numpy as np
import pytest

from chipfit.estimate.sampling import SAMPLED_KINDS, sample
from chipfit.graph.ops import Activation, Conv2d, Elementwise
from chipfit.graph.subgraphs import cut
from chipfit.measure.specimen import NAME, Specimen, integer_weights
from chipfit.nets.network import quantised_weights
from chipfit.targets import load_target


@pytest.mark.parametrize("kind", SAMPLED_KINDS)
def test_every_specimen_is_a_subgraph_of_its_own_in_the_middle_of_a_network(kind):
    fuses = load_target("neural-engine").fuses
    for specimen in sample(kind, 30, np.random.default_rng(3), fuses):
        (found,) = (part for part in cut(specimen.inside, fuses) if part.name == NAME)
        assert found.workload == specimen.workload(fuses)
        assert found.workload.kind == kind
        assert not found.gives_output
        assert not found.workload.plain_output or kind == "copy"
        members = [key for key, _ in found.members]
        assert members == [NAME, *(["activation"] if specimen.activation else []), *(["sum"] if specimen.adds else [])]


def test_alone_the_tensors_are_those_of_the_network():
    specimen = Specimen(Conv2d(24, (3, 3), padding=(1, 1, 1, 1)), ((1, 8, 10, 10),), activation="relu")
    (found,) = cut(specimen.alone)
    assert found.workload == specimen.workload()._replace(plain_input=True, plain_output=True)


@pytest.mark.parametrize("op", [Activation("tanh"), Elementwise("add"), Elementwise("mul")])
def test_what_could_run_with_the_operator_before_it_does_not(op):
    shapes = ((1, 24, 6, 6),) * (1 if isinstance(op, Activation) else 2)
    assert Specimen(op, shapes).workload(load_target("neural-engine").fuses).out_elements == 24 * 36


def test_integer_weights_are_found_again_when_they_are_quantised():
    graph = Specimen(Conv2d(24, (3, 3)), ((1, 8, 10, 10),)).inside
    weights = integer_weights(graph, 20, np.random.default_rng(0))[f"{NAME}.weight"]
    assert np.array_equal(quantised_weights(weights), np.round(weights * 64))
    # The first weight of every output channel is the largest.
    assert np.std(quantised_weights(weights).reshape(24, -1)[:, 1:]) == pytest.approx(20, rel=0.1)

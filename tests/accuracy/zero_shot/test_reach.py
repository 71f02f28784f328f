from collections.abc import Callable

import pytest
import torch
from tests.accuracy.zero_shot.small import images, residual
from torch import Tensor, nn

from chipfit.accuracy.zero_shot import fresh, reach
from chipfit.accuracy.zero_shot.reach import reached, varies
from chipfit.accuracy.zero_shot.trace import Trace, traced, untouched
from chipfit.spaces.published.nas_bench_201 import CONV1, CONV3, NONE, POOL, SKIP, space

CELLS = [(CONV3, NONE, CONV1, NONE, NONE, CONV3), (NONE, CONV1, SKIP, CONV3, CONV3, POOL)]


def maps(trace: Trace) -> list[Tensor]:
    return [*(product.gave for product in trace.products), *trace.bent_to]


def both(module: nn.Module) -> tuple[list[bool], list[bool]]:
    """What the graph of steps says, and what gradients say."""
    batch = images()
    with untouched(module, batch):
        trace = traced(module, batch)
    return reached(module, batch, trace, maps), reach._by_gradients(module, batch, trace, maps)


class DeadEnd(nn.Module):
    """Two ways; what the second gives is scaled, and what the third gives nobody reads."""

    def __init__(self, scale: float, bend: Callable[[Tensor], Tensor] = torch.relu) -> None:
        super().__init__()
        self.ways = nn.ModuleList(nn.Conv2d(3, 4, 3, padding=1) for _ in range(3))
        self.normalised = nn.BatchNorm2d(4)
        self.classifier = nn.Linear(4, 3)
        self.scale, self.bend = scale, bend
        with torch.no_grad():
            self.normalised.weight.fill_(scale)

    def forward(self, batch: Tensor) -> Tensor:
        first, second, _ = (self.bend(way(batch)) for way in self.ways)
        return self.classifier((first + self.normalised(second)).mean((2, 3)))


@pytest.mark.parametrize("code", CELLS)
def test_the_graph_of_steps_says_what_gradients_say(code: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(reach, "_by_gradients", None)  # never needed for these
        module, batch = fresh(space(resolution=8).close(code)), images()
        with untouched(module, batch):
            found = reached(module, batch, traced(module, batch), maps)
    assert found == both(fresh(space(resolution=8).close(code)))[1]
    assert all(both(residual())[0])


@pytest.mark.parametrize("bend", [torch.relu, nn.functional.relu6, nn.functional.hardswish, nn.functional.gelu])
def test_what_nobody_reads_is_not_reached(bend: Callable[[Tensor], Tensor]) -> None:
    found, wanted = both(DeadEnd(1.0, bend))
    assert found == wanted == [True, True, False, True, True, True, False]


def test_what_is_multiplied_with_zeros_is_not_reached() -> None:
    found, wanted = both(DeadEnd(0.0))
    assert found == wanted == [True, False, False, True, True, False, False]


@pytest.mark.parametrize("shift", [-100.0, 100.0])
def test_what_is_switched_off_throughout_hands_nothing_on(shift: float) -> None:
    module = DeadEnd(1.0, lambda x: nn.functional.relu6(x))
    with torch.no_grad():
        module.ways[1].bias.fill_(shift)  # type: ignore[union-attr, operator]
    found, wanted = both(module)
    assert found == wanted
    assert not found[1]


def test_one_number_that_is_not_zero_varies() -> None:
    found = torch.zeros(4, 3)
    assert not varies(found)
    found[3, 2] = 1
    assert varies(found)
    assert varies(torch.tensor(2.0))
    assert not varies(torch.tensor(0.0))

import pytest
import torch
import torch.nn.functional as F
from tests.accuracy.zero_shot.small import images, layers, residual
from torch import Tensor, nn

from chipfit.accuracy.zero_shot.gradients import LABELS, fisher, gradient_norm, grasp, snip
from chipfit.errors import ScoreFailed


def labels(seed: int = LABELS) -> Tensor:
    return torch.randint(3, (8,), generator=torch.Generator().manual_seed(seed))


def weights(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.ndim > 1]


def loss(module: nn.Module) -> Tensor:
    return F.cross_entropy(module(images()), labels())


def test_norm_and_snip_are_of_the_gradient_that_backward_gives() -> None:
    module = layers()
    loss(module).backward()
    taken = [(weight.detach(), weight.grad) for weight in weights(module)]
    norms, products = 0.0, 0.0
    for weight, gradient in taken:
        assert gradient is not None
        norms += float(gradient.norm())
        products += float((weight * gradient).abs().sum())
    assert gradient_norm(module, images()) == pytest.approx(norms)
    assert snip(module, images()) == pytest.approx(products)


def test_grasp_is_how_weights_change_the_gradient_along_itself() -> None:
    """Minus the derivative of half the squared gradient norm along the weights, by central differences."""
    module = layers().double()
    batch = images().double()

    def flow(scale: float) -> float:
        with torch.no_grad():
            scaled = layers().double()
            for old, new in zip(weights(module), weights(scaled), strict=True):
                new.copy_(old * scale)
        found = torch.autograd.grad(F.cross_entropy(scaled(batch), labels()), weights(scaled))
        return sum(float((each**2).sum()) for each in found) / 2

    step = 1e-4
    wanted = -(flow(1 + step) - flow(1 - step)) / (2 * step)
    assert grasp(module, batch) == pytest.approx(wanted, rel=1e-4)


def test_fisher_counts_each_sample_on_its_own() -> None:
    module, batch = layers(), images()
    hidden = module[1](module[0](batch)).detach().requires_grad_()
    output = module[3](module[2](hidden))
    output.retain_grad()
    F.cross_entropy(output, labels()).backward()
    wanted = 0.0
    for value in (hidden, output):
        assert value.grad is not None
        wanted += float((value.detach() * value.grad).pow(2).mean(0).sum()) / 2
    assert fisher(module, batch) == pytest.approx(wanted)


@pytest.mark.parametrize("score", [gradient_norm, snip, grasp, fisher])
def test_the_seed_of_the_labels_decides(score: object) -> None:
    module = residual()
    first, again, other = (score(module, images(), labels=seed) for seed in (1, 1, 2))  # type: ignore[operator]
    assert first == again != other


@pytest.mark.parametrize("score", [gradient_norm, snip, grasp])
def test_a_network_without_weights_has_no_gradient(score: object) -> None:
    with pytest.raises(ScoreFailed, match="weights"):
        score(nn.Flatten(), images())  # type: ignore[operator]

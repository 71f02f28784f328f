"""PyTorch modules: the network that comes out computes the same, has the same MACs, and names that its owner knows."""

import io
import warnings

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from chipfit.errors import InvalidInput
from chipfit.graph.ops import Activation, BatchNorm, Constant, Conv2d, Elementwise, Linear, Opaque
from chipfit.nets.module import GraphModule
from chipfit.nets.network import Network
from chipfit.nets.onnx.importer import import_onnx
from chipfit.nets.pytorch.importer import import_torch


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in evaluation mode, with statistics that are not those of a fresh one."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            low, high = (0.5, 1.5) if name.endswith("var") or tensor.ndim == 1 else (-0.4, 0.4)
            tensor.copy_(torch.empty(tensor.shape).uniform_(low, high, generator=generator))
    return module.eval()


def run(module: nn.Module, *inputs: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        results = module(*inputs)
    return results if isinstance(results, tuple) else (results,)


def assert_same(net: Network, module: nn.Module, *shapes: tuple[int, ...]) -> None:
    """Equal outputs for batches of 1 and 2, and the MACs that PyTorch itself counts."""
    generator = torch.Generator().manual_seed(1)
    for batch in (1, 2):
        inputs = [torch.randn(batch, *shape[1:], generator=generator) for shape in shapes]
        given, wanted = run(GraphModule(net.graph, net.weights).eval(), *inputs), run(module, *inputs)
        assert len(given) == len(wanted)
        for a, b in zip(given, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * max(1.0, float(b.abs().max())))
    # Of PyTorch's ways to compute attention, its counter knows this one.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        run(module, *(torch.zeros(shape) for shape in shapes))
    assert 2 * sum(int(net.graph.macs(node)) for node in net.graph.nodes) == counter.get_total_flops()


class Everything(nn.Module):
    """Operators in the forms in which people write them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), bias=False)
        self.same = nn.Conv2d(8, 8, 4, padding="same", groups=4)
        self.norm = nn.BatchNorm2d(8, eps=1e-3)
        self.up = nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1, groups=2)
        self.acts = nn.Sequential(nn.ReLU6(inplace=True), nn.Hardswish(), nn.SiLU(), nn.Hardsigmoid(), nn.GELU("tanh"))
        self.slopes = nn.Sequential(nn.PReLU(6), nn.PReLU(), nn.LeakyReLU(0.2))
        self.drop = nn.Dropout(0.5)
        self.scale = nn.Parameter(torch.ones(6, 1, 1))
        self.row = nn.Conv1d(6, 4, 3, stride=2, padding=1)
        self.row_norm = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.acts(self.norm(self.same(self.conv(x))))
        x = self.drop(self.up(x)) * self.scale
        x = self.slopes(x)
        a, b = x.chunk(2, 1)
        x = torch.cat([b, a], dim=1)
        x += 0.5
        x = 2 - x / 4
        y = F.max_pool2d(x, 3, 2, 1, ceil_mode=True) + F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False)
        y = torch.maximum(F.pad(y, (1, 0, 2, 1), value=0.3), torch.tensor(0.1))
        z = F.interpolate(y, scale_factor=2.0) - F.interpolate(
            y, size=(2 * y.shape[2], 2 * y.shape[3]), mode="bilinear"
        )
        z = z.clamp(-1, 1) + z.clamp(min=0) + torch.exp(torch.tanh(z)) + z.sigmoid().sqrt() + z.abs() - (-z)
        row = self.row_norm(self.row(z.mean(3)))
        means = z.mean((2, 3)), z.amax((2, 3)), z.mean(1), z.mean((1, 2), keepdim=True)
        parts = z[:, 1:4:2], z[:, :, -3:], z[:, :, 0], z[:, None, ..., 1], z.flatten(2).transpose(1, 2).softmax(-1)
        return row, *means, *parts, F.pixel_shuffle(z[:, :4], 2), F.adaptive_avg_pool2d(x, (1, 1)).flatten(1), x**2


class Attention(nn.Module):
    """A transformer block with a class token and positions."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, 4)
        self.token = nn.Parameter(torch.ones(1, 1, 8))
        self.positions = nn.Parameter(torch.ones(1, 5, 8))
        self.norm = nn.LayerNorm(8)
        self.query, self.keys, self.value = (nn.Linear(8, 8, bias=False) for _ in range(3))
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def heads(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], -1, 2, 4).permute(0, 2, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        y = self.norm(x)
        q, k, v = self.heads(self.query(y)), self.heads(self.keys(y)), self.heads(self.value(y))
        y = F.scaled_dot_product_attention(q, k, v) + torch.softmax(q @ k.transpose(-2, -1) / 2, -1) @ v
        x = x + y.transpose(1, 2).reshape(x.shape)
        return (x + self.mlp(x))[:, 0]


class SpelledOut(nn.Module):
    """Activations and a layer norm that are written in arithmetic."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        erf = 0.5 * x * (1 + torch.erf(x / 2**0.5))
        tanh = 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))
        return x * torch.sigmoid(x), x * F.relu6(x + 3) / 6, F.relu6(x + 3) / 6, x * F.hardsigmoid(x), erf, tanh


@pytest.mark.parametrize(
    ("module", "shape"), [(Everything(), (1, 3, 12, 10)), (Attention(), (1, 3, 8, 8)), (SpelledOut(), (1, 3, 4, 4))]
)
def test_handwritten_modules_compute_the_same(module: nn.Module, shape: tuple[int, ...]) -> None:
    randomised(module)
    net = import_torch(module, shape)
    assert not [node for node in net.graph.nodes if isinstance(node.op, Opaque)]
    assert_same(net, module, shape)


def test_activations_in_arithmetic_get_their_names() -> None:
    net = import_torch(SpelledOut(), (1, 3, 4, 4))
    ops = [net.graph.by_key[key].op for key in net.graph.outputs]
    assert [op.function for op in ops if isinstance(op, Activation)] == [
        "silu",
        "hard_swish",
        "hard_sigmoid",
        "hard_swish",
        "gelu",
        "gelu_tanh",
    ]
    assert len(net.graph.nodes) == 6


def third_party(name: str) -> tuple[nn.Module, int]:
    """A small instance of a network that others defined, and the size of its images."""
    file = pytest.importorskip(f"pytorchcv.models.{name}")
    match name:
        case "mobilenetv2":
            return file.MobileNetV2([[8], [8], [8, 8], [8], [8]], 8, 16, False, num_classes=5), 224
        case "mobilenetv3":
            stages = [[8], [8], [8], [8]]
            kernels, relu, se = [[1], [0], [1], [0]], [[1], [1], [0], [0]], [[1], [0], [1], [0]]
            net = file.MobileNetV3(stages, stages, 8, 16, 12, kernels, relu, se, True, False, num_classes=5)
            net.features.final_pool = nn.AdaptiveAvgPool2d(1)
            return net, 64
        case "shufflenetv2":
            return file.ShuffleNetV2([[32, 32], [64]], 8, 16, use_se=True, num_classes=5), 112
        case "efficientnet":
            stages = [[8], [8, 8]], 8, 16, [[3], [5, 3]], [1, 2], [[1], [4, 4]]
            return file.EfficientNet(*stages, tf_mode=True, in_size=(32, 32), num_classes=5), 32
        case "resnet":
            return file.ResNet([[8], [8]], 8, True, False, num_classes=5), 56
        case "densenet":
            return file.DenseNet([[12, 16], [12]], 8, num_classes=5), 56
        case _:
            return file.SqueezeNet([[16], [24], [24]], [[0], [0], [0]], 3, 8, num_classes=5), 224


THIRD_PARTY = (
    "mobilenetv3",
    "shufflenetv2",
    "efficientnet",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("mobilenetv2", "resnet", "densenet", "squeezenet")),
)


@pytest.mark.parametrize("name", THIRD_PARTY)
def test_third_party_modules_compute_the_same(name: str) -> None:
    module, size = third_party(name)
    randomised(module)
    shape = (1, 3, size, size)
    net = import_torch(module, shape, name)
    assert not [node for node in net.graph.nodes if isinstance(node.op, Opaque)]
    assert_same(net, module, shape)
    paths = {path for path, part in module.named_modules() if isinstance(part, (nn.Conv2d, nn.Linear, nn.BatchNorm2d))}
    assert paths == {node.key for node in net.graph.nodes if isinstance(node.op, (Conv2d, Linear, BatchNorm))}


@pytest.mark.parametrize("name", ["mobilenetv3", "shufflenetv2", "efficientnet", "densenet"])
@pytest.mark.parametrize("dynamo", [False, True])
def test_what_torch_writes_as_onnx_computes_the_same(name: str, dynamo: bool) -> None:
    if dynamo:
        pytest.importorskip("onnxscript")
    module, size = third_party(name)
    randomised(module)
    buffer, shape = io.BytesIO(), (1, 3, size, size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (torch.zeros(shape),), buffer, opset_version=18, dynamo=dynamo)
    net = import_onnx(onnx.load_from_string(buffer.getvalue()))
    assert not [node for node in net.graph.nodes if isinstance(node.op, Opaque)]
    assert_same(net, module, shape)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)
        self.act = nn.ReLU()
        self.gamma = nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.act(self.conv(x)) * self.gamma + x)


def test_keys_are_paths_of_modules() -> None:
    net = import_torch(nn.Sequential(Block(), Block()), (1, 4, 3, 3))
    keys = [node.key for node in net.graph.nodes]
    assert keys[:6] == ["0.conv", "0.act.relu", "0.gamma", "0.mul", "0.add", "0.act"]
    assert keys[6] == "1.conv"
    assert isinstance(net.graph.by_key["0.gamma"].op, Constant)
    assert set(net.weights) == {f"{i}.{name}" for i in (0, 1) for name in ("conv.weight", "conv.bias", "gamma.value")}


def test_a_module_that_is_used_twice_has_its_weights_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.fc(x))

    module = randomised(Twice())
    net = import_torch(module, (1, 4))
    assert [node.key for node in net.graph.nodes] == ["fc", "fc_1"]
    np.testing.assert_array_equal(net.weights["fc.weight"], net.weights["fc_1.weight"])
    assert_same(net, module, (1, 4))


def test_several_inputs_and_example_tensors() -> None:
    class Two(nn.Module):
        def forward(self, left: Tensor, right: Tensor) -> dict[str, Tensor]:
            return {"sum": left + right, "left": left}

    for example in ([(1, 3, 4, 4), (1, 3, 1, 1)], (torch.zeros(5, 3, 4, 4), torch.zeros(5, 3, 1, 1))):
        net = import_torch(Two(), example)
        assert [(item.key, item.shape) for item in net.graph.inputs] == [
            ("left", (1, 3, 4, 4)),
            ("right", (1, 3, 1, 1)),
        ]
        assert [node.op for node in net.graph.nodes] == [Elementwise("add")]
        assert net.graph.outputs == ("add", "left")


def test_the_module_stays_as_it_was() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout())
    module[1].eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    net = import_torch(module, (1, 3, 4, 4))
    assert (module.training, module[1].training, module[2].training) == (True, False, True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    net.weights["0.weight"][:] = 0
    assert torch.equal(module[0].weight, before["0.weight"])


class Odd(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return F.softplus(x).relu(), x.topk(2).values, F.interpolate(x, size=5, mode="bicubic")


def test_unknown_operators_are_opaque_with_their_shape() -> None:
    net = import_torch(Odd(), (1, 3, 4, 4))
    opaque = {node.op.operator: node.op.size for node in net.graph.nodes if isinstance(node.op, Opaque)}
    assert opaque == {
        "aten.softplus": (1, 3, 4, 4),
        "aten.topk": (1, 3, 4, 2),
        "aten.upsample_bicubic2d.vec": (1, 3, 5, 5),
    }


class DependsOnValues(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("module", "example", "message"),
    [
        (nn.Linear(4, 2), (1, 5), r"Linear does not run on inputs of shapes \(1, 5\): RuntimeError"),
        (DependsOnValues(), (1, 5), "DependsOnValues runs, but torch.export cannot trace it"),
        (nn.ReLU(), (), "needs the shape of its input"),
        (nn.ReLU(), (1, 0), r"input shape \(1, 0\)"),
    ],
)
def test_what_cannot_be_traced_is_refused_in_one_line(module: nn.Module, example: object, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        import_torch(module, example)
    assert "\n" not in str(caught.value)


def test_weights_of_other_precision_become_float32() -> None:
    module = nn.Sequential(nn.Linear(4, 2)).to(torch.float64)
    net = import_torch(module, torch.zeros(1, 4, dtype=torch.float64))
    np.testing.assert_array_equal(net.weights["0.weight"], module[0].weight.detach().float().numpy(), strict=True)

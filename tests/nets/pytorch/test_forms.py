"""PyTorch's operators in the forms in which people write them, imported, run, counted and exported."""

import io
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from chipfit.errors import InvalidInput
from chipfit.graph.ops import Opaque
from chipfit.graph.subgraphs import cut
from chipfit.nets.module import GraphModule
from chipfit.nets.network import Network
from chipfit.nets.onnx.exporter import export_onnx
from chipfit.nets.onnx.importer import import_onnx
from chipfit.nets.pytorch.importer import import_torch
from chipfit.nets.tflite.exporter import tflite_model
from chipfit.nets.tflite.runtime import run_tflite

SHAPE = (1, 8, 4, 6)


class Written(nn.Module):
    """A function as a module, with parts that it may use."""

    def __init__(self, function: Callable[..., Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.parts = nn.ModuleDict(parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, **self.parts)


def rows(x: Tensor) -> Tensor:
    """Pixels as a sequence: (batch, 24, 8)."""
    return x.flatten(2).transpose(1, 2)


def local_response(x: Tensor) -> Tensor:
    return F.local_response_norm(x, 5, alpha=0.3)


def gated(x: Tensor) -> Tensor:
    return x * x.mean((2, 3), keepdim=True).sigmoid().expand_as(x)


def repeated_for_good(x: Tensor) -> Tensor:
    return torch.cat([x, x.mean((2, 3), keepdim=True).expand_as(x)], 1)


def branches(x: Tensor) -> Tensor:
    parts = torch.stack([x, x.relu()], 1)
    return (parts * parts.sum(1).mean((2, 3)).softmax(1)[:, None, :, None, None]).sum(1)


def stacked_in_front(x: Tensor) -> Tensor:
    return torch.stack([x, x.abs(), x.relu()], 0).mean(0)


def along_channels(x: Tensor) -> Tensor:
    weight = torch.linspace(-1, 1, 2 * 3).reshape(2, 1, 3, 1, 1)
    return F.conv3d(x.unsqueeze(1), weight, stride=(2, 1, 1), padding=(1, 0, 0)).flatten(1, 2)


def queries_keys_values(x: Tensor, qkv: nn.Module) -> Tensor:
    batch, count, _ = rows(x).shape
    q, k, v = qkv(rows(x)).reshape(batch, count, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
    share = (q @ k.transpose(-2, -1) * 0.5).softmax(dim=-1)
    return (share @ v).transpose(1, 2).reshape(batch, count, 8)


def sequence_first(x: Tensor, attention: nn.Module) -> Tensor:
    given = rows(x).permute(1, 0, 2)
    return attention(given, given, given, need_weights=False)[0].permute(1, 0, 2)


def shifted_windows(x: Tensor, mix: nn.Module) -> Tensor:
    x = torch.roll(x.permute(0, 2, 3, 1), (-1, -1), (1, 2))
    windows = x.reshape(-1, 2, 2, 3, 2, 8).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, 8)
    windows = mix((windows @ windows.transpose(1, 2)).softmax(-1) @ windows)
    x = windows.reshape(-1, 2, 3, 2, 2, 8).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, 6, 8)
    return torch.roll(x, (1, 1), (1, 2)).permute(0, 3, 1, 2)


def sequence_normalised_by_image(x: Tensor) -> Tensor:
    x = rows(x)
    return (x - x.mean(1, keepdim=True)) / x.std((1, 2), keepdim=True).clamp(min=0.1)


def attention_layer() -> nn.Module:
    return nn.MultiheadAttention(8, 2, batch_first=True)


FORMS: dict[str, Written] = {
    "local response": Written(local_response),
    "gate": Written(gated),
    "repeated": Written(repeated_for_good),
    "branches": Written(branches),
    "stacked in front": Written(stacked_in_front),
    "along channels": Written(along_channels),
    "best of channels": Written(lambda x: x.max(1, keepdim=True)[0] + x.min(1, keepdim=True).values),
    "group norm": Written(lambda x, norm: norm(x), norm=nn.GroupNorm(2, 8)),
    "instance norm": Written(lambda x, norm: norm(x), norm=nn.InstanceNorm2d(8, affine=True)),
    "rms norm": Written(lambda x, norm: norm(rows(x)), norm=nn.RMSNorm(8)),
    "unit length": Written(F.normalize),
    "curves": Written(lambda x: F.elu(x) + F.selu(x) + F.celu(x, 2.0) + F.mish(x) + F.glu(x, 1).repeat(1, 2, 1, 1)),
    "reciprocals": Written(lambda x: (x.abs() + 1).rsqrt() + (x.abs() + 1).reciprocal() + (x.abs() + 1) ** -2),
    "scaled sums": Written(lambda x: torch.add(x, x.relu(), alpha=2) - torch.sub(x, 1.0, alpha=0.5)),
    "mirrors": Written(lambda x: F.pad(x, (2, 1, 1, 2), mode="reflect") * F.pad(x, (2, 1, 1, 2), mode="replicate")),
    "more channels": Written(lambda x: F.pad(x, (0, 0, 0, 0, 1, 3))),
    "uneven windows": Written(lambda x: F.adaptive_avg_pool2d(x, (3, 4)) + F.adaptive_max_pool2d(x, (3, 4))),
    "shuffles": Written(lambda x: F.channel_shuffle(x, 4).repeat_interleave(2, 1)[:, [3, 1, 2, 0]]),
    "pixels to channels": Written(lambda x: F.pixel_shuffle(F.pixel_unshuffle(x, 2) * 2, 2)),
    "einsum": Written(lambda x: torch.einsum("bchw,bdhw->bcd", x, x)),
    "filled": Written(lambda x: torch.cat([torch.zeros_like(x), x, x.new_ones(x.shape)], 1)),
    "slopes": Written(lambda x, act: act(x.mean((2, 3)))[:, :, None] * act(x.mean(3)), act=nn.PReLU(8)),
    "clamped by a tensor": Written(lambda x: x.clamp(min=torch.linspace(0, 1, 6))),
    "queries": Written(queries_keys_values, qkv=nn.Linear(8, 24)),
    "attention": Written(lambda x, layer: layer(rows(x), rows(x), rows(x))[0], layer=attention_layer()),
    "sequence first": Written(sequence_first, attention=nn.MultiheadAttention(8, 2)),
    "encoder": Written(lambda x, layer: layer(rows(x)), layer=nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)),
    "windows": Written(shifted_windows, mix=nn.Linear(8, 8)),
    "by image": Written(sequence_normalised_by_image),
}


@cache
def imported(name: str) -> tuple[Written, Network]:
    module = FORMS[name].eval()
    generator = torch.Generator().manual_seed(3)
    for tensor in module.parameters():
        tensor.data.uniform_(-0.5, 0.5, generator=generator)
    return module, import_torch(module, SHAPE)


def images(batch: int) -> Tensor:
    return torch.randn(batch, *SHAPE[1:], generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("name", FORMS)
def test_forms_compute_the_same_with_equal_macs(name: str) -> None:
    module, net = imported(name)
    assert not [node.op.operator for node in net.graph.nodes if isinstance(node.op, Opaque)]
    twin = GraphModule(net.graph, net.weights).eval()
    with torch.no_grad():
        for batch in (1, 3):
            torch.testing.assert_close(twin(images(batch)), module(images(batch)), rtol=1e-4, atol=1e-5)
    # Of PyTorch's ways to compute attention, its counter knows this one, and none of those without gradients.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        module(images(1))
    assert 2 * sum(int(net.graph.macs(node)) for node in net.graph.nodes) == counter.get_total_flops()


@pytest.mark.parametrize("name", FORMS)
def test_forms_are_the_same_after_export(name: str, tmp_path: Path) -> None:
    module, net = imported(name)
    with torch.no_grad():
        wanted = module(images(1)).numpy()
    path = tmp_path / "net.onnx"
    export_onnx(net, path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": images(1).numpy()})[0], wanted, rtol=1e-4, atol=1e-5)
    assert import_onnx(path).graph == net.graph
    pytest.importorskip("ai_edge_litert", reason="the LiteRT runtime is not installed")
    (given,) = run_tflite(tflite_model(net), images(1).numpy())
    np.testing.assert_allclose(given.reshape(wanted.shape), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FORMS)
def test_forms_are_cut_into_workloads_with_all_macs(name: str) -> None:
    _, net = imported(name)
    subgraphs = cut(net.graph, {})
    assert sum(int(part.workload.macs) for part in subgraphs) == sum(int(net.graph.macs(n)) for n in net.graph.nodes)


def test_a_number_before_a_tensor_says_nothing_of_the_size() -> None:
    """As 1 - x and 1 / x have it: what they ask of the hardware is what x - 1 asks."""
    before, behind = (
        cut(import_torch(Written(function), SHAPE).graph, {})[0].workload
        for function in (lambda x: 1 - x, lambda x: x - 1)
    )
    assert before == behind


THROUGH_ONNX = ("branches", "group norm", "instance norm", "best of channels", "repeated", "unit length")


@pytest.mark.parametrize("name", THROUGH_ONNX)
def test_forms_are_the_same_through_the_file_that_torch_writes(name: str) -> None:
    module, _ = imported(name)
    buffer = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(module, (images(1),), buffer, opset_version=18, dynamo=False)
    net = import_onnx(onnx.load_from_string(buffer.getvalue()))
    assert not [node.op.operator for node in net.graph.nodes if isinstance(node.op, Opaque)]
    with torch.no_grad():
        wanted = module(images(1))
        torch.testing.assert_close(GraphModule(net.graph, net.weights)(images(1)), wanted, rtol=1e-4, atol=1e-5)


def test_what_mixes_a_tensor_mixes_one_image() -> None:
    net = import_torch(Written(lambda x: x / x.abs().max()), SHAPE)
    with torch.no_grad():
        given = GraphModule(net.graph, net.weights)(images(2))
    assert torch.equal(given, torch.stack([x / x.abs().max() for x in images(2)]))


def test_an_output_without_its_batch_in_front_has_it_there() -> None:
    net = import_torch(Written(lambda x: x.transpose(0, 1)), SHAPE)
    assert net.graph.shapes[net.graph.outputs[0]] == (1, 8, 1, 4, 6)


@pytest.mark.parametrize(
    ("function", "operator"),
    [
        (lambda x: x.max(1)[1] * 1.0, "aten.max.dim"),
        (lambda x: F.max_pool2d(x, 2, return_indices=True)[1] * 1.0, "aten.max_pool2d_with_indices"),
        (lambda x: F.conv3d(x[:, None], torch.ones(2, 1, 2, 3, 3)), "aten.conv3d"),
        (lambda x: x[:, torch.arange(7, -1, -1).repeat(5)], "aten.index.Tensor"),
        (lambda x: F.conv2d(x, x.mean((2, 3)).reshape(8, 1, 1, 1).expand(8, 8, 1, 1)), "aten.conv2d"),
        (lambda x: torch.where(x > 0, x, -x), "aten.where.self"),
    ],
)
def test_what_no_node_says_is_named(function: Callable[[Tensor], Tensor], operator: str) -> None:
    net = import_torch(Written(function), SHAPE)
    assert operator in {node.op.operator for node in net.graph.nodes if isinstance(node.op, Opaque)}


@torch.library.custom_op("chipfit_tests::twist", mutates_args=())
def twist(x: Tensor) -> Tensor:
    return x.flip(1)


@twist.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("chipfit_tests::bare", mutates_args=())
def bare(x: Tensor) -> Tensor:
    return x.flip(1)


def test_an_operator_of_the_users_own_is_named_and_reported_by_the_rest() -> None:
    net = import_torch(Written(lambda x: twist(x).relu()), SHAPE)
    assert net.graph.nodes[0].op == Opaque("chipfit_tests.twist", SHAPE)


def control_flow(x: Tensor) -> Tensor:
    return x if x.sum() > 0 else -x


def loop(x: Tensor) -> Tensor:
    while x.max() < 1:
        x = x + 1
    return x


def other_way(x: Tensor) -> Tensor:
    return torch.cond(x.sum() > 0, torch.sin, torch.cos, (x,))


class Two(nn.Module):
    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return left + right


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Written(control_flow), r"depends on the value of a tensor \(test_forms.py, line \d+: return x if x.sum\(\)"),
        (Written(loop), r"depends on the value of a tensor \(test_forms.py, line \d+: while x.max\(\) < 1:\)"),
        (Written(other_way), "cond.*control flow must not depend on the values of tensors; cut"),
        (Written(lambda x: x[x > 0]), r"'aten.index.Tensor' gives has a size that depends on.*\(test_forms.py, line"),
        (Written(lambda x: x.nonzero() * 2), "'aten.nonzero' gives has a size that depends on the values of tensors"),
        (Written(lambda x: x * x.sum().item()), "'aten.item' gives has a size that depends on the values"),
        (Written(lambda x: torch.from_numpy(x.numpy() * 2)), "without numpy and without control flow"),
        (Written(bare), "no fake impl registered for <CustomOpDef.chipfit_tests::bare"),
        (Written(lambda x: None), "gives no tensor; its forward must return one"),
        (Two(), "missing 1 required positional argument: 'right'; check the shapes, one for each input"),
        (nn.Embedding(4, 4), "Long, Int; but got"),
        (Written(lambda x: x.view(7, -1)), "Written does not run on inputs of shapes"),
    ],
)
def test_what_cannot_be_imported_is_refused_in_one_line(
    module: nn.Module, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        import_torch(module, SHAPE)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")

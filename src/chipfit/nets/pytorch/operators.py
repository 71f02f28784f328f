"""PyTorch's operators (ATen) that compute, as nodes of a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from chipfit.graph.ops import Activation, Elementwise, MatMul, Resize, Softmax
from chipfit.nets import composed
from chipfit.nets import draft as to
from chipfit.nets.draft import Unrepresentable
from chipfit.nets.pytorch.call import Call
from chipfit.nets.pytorch.layout import LAYOUT
from chipfit.nets.pytorch.several import SEVERAL


def _convolution(call: Call) -> str:
    weight = call.array("weight")
    axes = weight.ndim - 2
    stride, dilation = call.ints("stride", axes), call.ints("dilation", axes)
    if isinstance(call.arguments["padding"], str):
        reach = [spread * (size - 1) for spread, size in zip(dilation, weight.shape[2:], strict=True)]
        totals = reach if call.arguments["padding"] == "same" else [0] * axes
        padding = [total // 2 for total in totals] + [total - total // 2 for total in totals]
    else:
        padding = call.ints("padding", axes) * 2
    transposed = call.arguments.get("transposed", "output_padding" in call.arguments)
    extra = call.ints("output_padding", axes) if transposed else None
    bias, groups = call.optional("bias"), int(call.arguments["groups"])
    if axes == 3:
        _along_depth(call, weight.shape[2:], stride, padding[:3])
        image, back = composed.flattened(call.draft, call.key, call.tensor("input"))
        lengths = (stride[0], 1), (padding[0], 0, padding[3], 0), (dilation[0], 1)
        plane = weight.reshape(*weight.shape[:3], 1)
        if transposed:
            raise Unrepresentable("a transposed convolution over 3 axes")
        return back(to.convolution(call.draft, call.key, image, plane, bias, *lengths, groups))
    return to.convolution(
        call.draft, call.key, call.tensor("input"), weight, bias, stride, padding, dilation, groups, extra
    )


def _along_depth(call: Call, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> None:
    """Raises `Unrepresentable` for windows in three axes other than those that span the first one only."""
    if (*kernel[1:], *stride[1:], *padding[1:]) != (1, 1, 1, 1, 0, 0):
        raise Unrepresentable("a window in height and width of a volume")


def _linear(call: Call) -> str:
    return to.linear(call.draft, call.key, call.tensor("input"), call.array("weight"), call.optional("bias"))


def _addmm(call: Call) -> str:
    weight, bias = call.array("mat2").T, call.array("self")
    if (call.arguments["alpha"], call.arguments["beta"]) != (1, 1) or bias.shape != weight.shape[:1]:
        raise Unrepresentable("scaled, or with a bias per row")
    return to.linear(call.draft, call.key, call.tensor("mat1"), weight, bias)


def _matmul(second: str) -> Callable[[Call], str]:
    def build(call: Call) -> str:
        other = call.arguments[second]
        if isinstance(other, torch.Tensor) and other.ndim == 2:
            return to.linear(call.draft, call.key, call.tensor("self"), call.array(second).T, None)
        if min(len(call.shape("self")), len(call.shape(second))) < 2:
            raise Unrepresentable("a product with a vector")
        return call.draft.add(call.key, MatMul(), [call.tensor("self"), call.tensor(second)])

    return build


def _batch_norm(call: Call) -> str:
    if call.arguments.get("training"):
        raise Unrepresentable("batch normalisation without running statistics")
    weight, bias, eps = call.optional("weight"), call.optional("bias"), float(call.arguments["eps"])
    mean, variance = call.array("running_mean"), call.array("running_var")
    return to.batch_norm(call.draft, call.key, call.tensor("input"), weight, bias, mean, variance, eps)


def _layer_norm(call: Call) -> str:
    axes, eps = len(call.ints("normalized_shape")), float(call.arguments["eps"])
    return to.layer_norm(
        call.draft, call.key, call.tensor("input"), axes, call.optional("weight"), call.optional("bias"), eps
    )


def _activation(function: str) -> Callable[[Call], str]:
    return lambda call: call.draft.add(call.key, Activation(function), [call.tensor(next(iter(call.arguments)))])


def _gelu(call: Call) -> str:
    function = "gelu" if call.arguments["approximate"] == "none" else "gelu_tanh"
    return call.draft.add(call.key, Activation(function), [call.tensor("self")])


def _leaky_relu(call: Call) -> str:
    slope = float(call.arguments["negative_slope"])
    return call.draft.add(call.key, Activation("leaky_relu", slope), [call.tensor("self")])


def _prelu(call: Call) -> str:
    slopes = call.array("weight").reshape(-1, *[1] * (len(call.shape("self")) - 2))
    return to.prelu(call.draft, call.key, call.tensor("self"), slopes)


def _clamp(low: str | None, high: str | None) -> Callable[[Call], str]:
    def build(call: Call) -> str:
        given = [("max", low), ("min", high)]
        bounds = [None if name is None else call.arguments[name] for _, name in given]
        source = call.tensor("self")
        if all(isinstance(bound, (int, float, type(None))) for bound in bounds):
            least, most = (None if bound is None else float(bound) for bound in bounds)
            return to.clamp(call.draft, call.key, source, least, most)
        for function, name in given:
            if name is not None and call.arguments[name] is not None:
                source = call.draft.add(call.key, Elementwise(function), [source, call.tensor(name)])
        return source

    return build


def _softmax(call: Call) -> str:
    return call.draft.add(call.key, Softmax(int(call.arguments["dim"])), [call.tensor(next(iter(call.arguments)))])


def _elementwise(function: str, swapped: bool = False) -> Callable[[Call], str]:
    def build(call: Call) -> str:
        if call.arguments.get("rounding_mode") is not None:
            raise Unrepresentable("rounded")
        given, alpha = call.arguments, call.arguments.get("alpha", 1)
        # rsub takes its first operand alpha times from the second.
        scaled = "self" if swapped else "other"
        values = {"self": given["self"], "other": given["other"]}
        if alpha != 1 and isinstance(values[scaled], (int, float)):
            values[scaled] = alpha * values[scaled]
        pair = [call.key_of(value, name) for name, value in values.items()]
        if alpha != 1 and not isinstance(values[scaled], (int, float)):
            position = 0 if swapped else 1
            pair[position] = composed.pair(call.draft, f"{call.key}.scaled", "mul", pair[position], float(alpha))
        return call.draft.add(call.key, Elementwise(function), pair[::-1] if swapped else pair)

    return build


def _pool(function: str, axes: int) -> Callable[[Call], str]:
    def build(call: Call) -> str:
        given = call.arguments
        if given.get("divisor_override") is not None or set(call.ints("dilation") if "dilation" in given else [1]) != {
            1
        }:
            raise Unrepresentable("dilation, or a divisor of its own")
        kernel = call.ints("kernel_size", axes)
        stride = call.ints("stride", axes) or kernel
        padding = call.ints("padding", axes) * 2
        counted = bool(given.get("count_include_pad", True))
        ceil_mode, source = bool(given["ceil_mode"]), call.tensor("self")
        if axes < 3:
            return to.pool(call.draft, call.key, source, function, kernel, stride, padding, ceil_mode, counted)
        _along_depth(call, kernel, stride, padding[:3])
        image, back = composed.flattened(call.draft, call.key, source)
        lengths = (kernel[0], 1), (stride[0], 1), (padding[0], 0, padding[0], 0)
        return back(to.pool(call.draft, call.key, image, function, *lengths, ceil_mode, counted))

    return build


def _adaptive_pool(function: str) -> Callable[[Call], str]:
    def build(call: Call) -> str:
        shape = call.shape("self")
        sizes, target = shape[2:], call.ints("output_size")
        if set(target) == {1}:
            axes = range(2, 2 + len(sizes))
            return to.reduce(call.draft, call.key, call.tensor("self"), axes, keep=True, function=function)
        return composed.adaptive_pool(call.draft, call.key, call.tensor("self"), function, target)

    return build


def _with_indices(build: Callable[[Call], str]) -> Callable[[Call], list[str]]:
    return lambda call: [build(call)]


def _reduce(function: str) -> Callable[[Call], str]:
    def build(call: Call) -> str:
        axes = call.arguments.get("dim")
        over = call.ints("dim") if axes is not None else []
        keep = bool(call.arguments.get("keepdim", False))
        return to.reduce(call.draft, call.key, call.tensor("self"), over, keep, function)

    return build


def _resize(mode: str) -> Callable[[Call], str]:
    def build(call: Call) -> str:
        given = call.arguments
        align_corners = bool(given.get("align_corners", False))
        if given["output_size"] is not None:
            height, width = call.ints("output_size")
            op = Resize(mode, size=(height, width), align_corners=align_corners)
        else:
            down, right = (float(factor) for factor in given["scale_factors"])
            op = Resize(mode, scale=(down, right), align_corners=align_corners)
        return call.draft.add(call.key, op, [call.tensor("input")])

    return build


def _attention(call: Call) -> str:
    given, draft, key = call.arguments, call.draft, call.key
    shape = call.shape("query")
    if given["is_causal"] or given["enable_gqa"] or given["dropout_p"]:
        raise Unrepresentable("causal or grouped attention")
    keys = call.tensor("key")
    order = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
    turned = to.transpose(draft, f"{key}.transpose", keys, order)
    product = draft.add(f"{key}.scores", MatMul(), [call.tensor("query"), turned])
    factor = shape[-1] ** -0.5 if given["scale"] is None else float(given["scale"])
    scale = draft.constant(f"{key}.scale", np.array(factor, np.float32))
    scores = draft.add(f"{key}.scaled", Elementwise("mul"), [product, scale])
    if given["attn_mask"] is not None:
        mask = given["attn_mask"]
        if isinstance(mask, torch.Tensor) and mask.dtype == torch.bool:
            raise Unrepresentable("a mask of true and false")
        scores = draft.add(f"{key}.masked", Elementwise("add"), [scores, call.tensor("attn_mask")])
    share = draft.add(f"{key}.softmax", Softmax(-1), [scores])
    return draft.add(key, MatMul(), [share, call.tensor("value")])


OPERATORS: Mapping[str, Callable[[Call], str | list[str]]] = {
    **LAYOUT,
    **SEVERAL,
    **dict.fromkeys(
        ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "convolution"), _convolution
    ),
    "linear": _linear,
    "addmm": _addmm,
    "mm": _matmul("mat2"),
    "bmm": _matmul("mat2"),
    "matmul": _matmul("other"),
    "batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _with_indices(_batch_norm),
    "layer_norm": _layer_norm,
    "native_layer_norm": _with_indices(_layer_norm),
    "relu": _activation("relu"),
    "relu6": _activation("relu6"),
    "hardswish": _activation("hard_swish"),
    "hardsigmoid": _activation("hard_sigmoid"),
    "silu": _activation("silu"),
    "sigmoid": _activation("sigmoid"),
    "tanh": _activation("tanh"),
    "exp": _activation("exp"),
    "sqrt": _activation("sqrt"),
    "abs": _activation("abs"),
    "neg": _activation("neg"),
    "gelu": _gelu,
    "leaky_relu": _leaky_relu,
    "prelu": _prelu,
    "_prelu_kernel": _prelu,
    "hardtanh": _clamp("min_val", "max_val"),
    "clamp": _clamp("min", "max"),
    "clamp_min": _clamp("min", None),
    "clamp_max": _clamp(None, "max"),
    "softmax": _softmax,
    "_softmax": _softmax,
    "add": _elementwise("add"),
    "sub": _elementwise("sub"),
    "rsub": _elementwise("sub", swapped=True),
    "mul": _elementwise("mul"),
    "div": _elementwise("div"),
    "maximum": _elementwise("max"),
    "minimum": _elementwise("min"),
    "max_pool1d": _pool("max", 1),
    "max_pool2d": _pool("max", 2),
    "avg_pool1d": _pool("average", 1),
    "avg_pool2d": _pool("average", 2),
    "avg_pool3d": _pool("average", 3),
    "max_pool2d_with_indices": _with_indices(_pool("max", 2)),
    "adaptive_avg_pool1d": _adaptive_pool("average"),
    "adaptive_avg_pool2d": _adaptive_pool("average"),
    "adaptive_max_pool2d": _with_indices(_adaptive_pool("max")),
    "mean": _reduce("average"),
    "amax": _reduce("max"),
    "upsample_nearest2d": _resize("nearest"),
    "upsample_bilinear2d": _resize("bilinear"),
    "scaled_dot_product_attention": _attention,
}
"""How each operator is said in a graph, by its name without overload. One that is missing becomes an `Opaque`."""

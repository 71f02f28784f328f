"""Random chains of operators that move and mix axes: wherever they end up in the graph, the numbers are LiteRT's."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from chipfit.graph.ops import Opaque
from chipfit.nets.network import Network
from chipfit.nets.tflite.importer import import_tflite

Computed = Callable[[Network, Sequence[np.ndarray]], list[np.ndarray]]

LARGEST = 400
STARTS = ((1, 4, 6, 3), (1, 6, 4), (1, 12), (1, 2, 3, 4))
Shape = tuple[int, ...]
CONVOLUTION = {"Padding": 0, "StrideW": 1, "StrideH": 1, "DilationWFactor": 1, "DilationHFactor": 1}


class Chain:
    """A file in the making: each step reads one of the last tensors."""

    def __init__(self, file: Any, generator: np.random.Generator) -> None:
        self.file, self.draw = file, generator
        start = STARTS[generator.integers(len(STARTS))]
        self.pool: list[tuple[int, Shape]] = [(file.input("x", start), start)]

    def emit(self, code: str, inputs: Sequence[int], shape: Shape, table: str = "", **options: Any) -> None:
        result = self.file.tensor(f"t{len(self.pool)}", shape)
        self.file.operator(code, inputs, result, table=table, **options)
        self.pool.append((result, shape))

    def integers(self, values: Any) -> int:
        return self.file.constant(np.asarray(values, np.int32))

    def numbers(self, *shape: int) -> int:
        return self.file.constant(self.draw.uniform(-1, 1, shape))

    def step(self) -> None:
        last = self.pool[-3:]
        tensor, shape = last[self.draw.integers(len(last))]
        kinds = (self.move, self.refit, self.mix, self.part, self.layer)
        kinds[self.draw.integers(len(kinds))](tensor, shape, int(self.draw.integers(3)))

    def move(self, x: int, shape: Shape, kind: int) -> None:
        rest = [int(axis) for axis in 1 + self.draw.permutation(len(shape) - 1)]
        order = [int(axis) for axis in self.draw.permutation(len(shape))] if kind == 0 else [0, *rest]
        self.emit("TRANSPOSE", [x, self.integers(order)], tuple(shape[axis] for axis in order))

    def refit(self, x: int, shape: Shape, kind: int) -> None:
        if kind == 0 and len(shape) < 4:
            axis = int(self.draw.integers(len(shape) + 1))
            self.emit("EXPAND_DIMS", [x, self.integers([axis])], (*shape[:axis], 1, *shape[axis:]))
        elif kind == 1 and 1 in shape[1:]:
            axis = shape.index(1, 1)
            self.emit("SQUEEZE", [x], shape[:axis] + shape[axis + 1 :], "SqueezeOptions", SqueezeDims=[axis])
        else:
            left, sizes = math.prod(shape), [1] * int(self.draw.integers(3) > 0)
            for _ in range(self.draw.integers(0, 3)):
                sizes.append(int(self.draw.choice([size for size in range(1, left + 1) if left % size == 0])))
                left //= sizes[-1]
            self.emit("RESHAPE", [x, self.integers([*sizes, left])], (*sizes, left))

    def mix(self, x: int, shape: Shape, kind: int) -> None:
        axis = int(self.draw.integers(len(shape)))
        alike = [tensor for tensor, other in self.pool if other == shape]
        second = alike[self.draw.integers(len(alike))]
        if kind == 0 and math.prod(shape) < LARGEST:
            wider = tuple(2 * size if place == axis else size for place, size in enumerate(shape))
            self.emit("CONCATENATION", [x, second], wider, "ConcatenationOptions", Axis=axis)
        elif kind == 1 and len(shape) > 2:
            self.emit("BATCH_MATMUL", [x, second], (*shape[:-1], shape[-2]), "BatchMatMulOptions", AdjY=True)
        else:
            sizes = [size if self.draw.integers(2) else 1 for size in shape][axis:]
            self.emit("ADD", [x, self.numbers(*sizes)], shape, "AddOptions")

    def part(self, x: int, shape: Shape, kind: int) -> None:
        if kind == 0:
            begin = [0, *(int(self.draw.integers(size)) for size in shape[1:])]
            sizes = [
                shape[0],
                *(int(self.draw.integers(1, 1 + s - b)) for s, b in zip(shape[1:], begin[1:], strict=True)),
            ]
            self.emit("SLICE", [x, self.integers(begin), self.integers(sizes)], tuple(sizes))
        elif kind == 1 and len(shape) > 1:
            axis, keep = int(self.draw.integers(1, len(shape))), bool(self.draw.integers(2))
            left = tuple(1 if place == axis else s for place, s in enumerate(shape) if keep or place != axis)
            self.emit("MEAN", [x, self.integers([axis])], left, "ReducerOptions", KeepDims=keep)
        else:
            pads = [[0, 0], *(self.draw.integers(0, 2, 2).tolist() for _ in shape[1:])]
            wider = tuple(size + sum(pad) for size, pad in zip(shape, pads, strict=True))
            self.emit("PAD", [x, self.integers(pads)], wider)

    def layer(self, x: int, shape: Shape, kind: int) -> None:
        if len(shape) == 4 and shape[0] == 1:
            weights = [self.numbers(3, 1, 2, shape[3]), self.numbers(3)]
            self.emit("CONV_2D", [x, *weights], (*shape[:3], 3), "Conv2DOptions", **CONVOLUTION)
        elif kind == 0 and len(shape) > 1:
            weights, keep = [self.numbers(2, shape[-1]), self.numbers(2)], len(shape) != 2
            self.emit("FULLY_CONNECTED", [x, *weights], (*shape[:-1], 2), "FullyConnectedOptions", KeepNumDims=keep)
        elif kind == 1:
            self.emit("SOFTMAX", [x], shape, "SoftmaxOptions", Beta=1.0)
        else:
            self.emit("TANH", [x], shape)


def of_litert(data: bytes, given: np.ndarray) -> list[np.ndarray]:
    """What LiteRT computes, as the graph has it."""
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    place = interpreter.get_input_details()[0]["index"]
    interpreter.set_tensor(place, given.transpose(0, 2, 3, 1) if given.ndim == 4 else given)
    interpreter.invoke()
    results = [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]
    return [result.transpose(0, 3, 1, 2) if result.ndim == 4 and len(result) == 1 else result for result in results]


def same(new_file: Callable[[], Any], computed: Computed, seeds: range) -> None:
    for seed in seeds:
        generator = np.random.default_rng(seed)
        chain = Chain(new_file(), generator)
        for _ in range(generator.integers(1, 8)):
            chain.step()
        data = chain.file.written(*dict.fromkeys((chain.pool[-1][0], chain.pool[len(chain.pool) // 2][0])))
        net = import_tflite(data)
        assert not any(isinstance(node.op, Opaque) for node in net.graph.nodes), f"seed {seed}"
        given = np.random.default_rng(1).standard_normal(net.graph.inputs[0].shape, np.float32)
        for ours, theirs in zip(computed(net, [given]), of_litert(data, given), strict=True):
            # The graph keeps a batch of 1 in front of what has none in the file.
            assert ours.shape in (theirs.shape, (1, *theirs.shape))
            np.testing.assert_allclose(ours.reshape(theirs.shape), theirs, rtol=1e-4, atol=1e-4, err_msg=f"seed {seed}")


def test_axes_are_followed(new_file: Callable[[], Any], computed: Computed) -> None:
    same(new_file, computed, range(150))


@pytest.mark.slow
def test_axes_are_followed_at_length(new_file: Callable[[], Any], computed: Computed) -> None:
    same(new_file, computed, range(1000, 4000))

"""Networks from PyTorch modules, through torch.export."""

from __future__ import annotations

import operator
import re
import warnings
from collections.abc import Callable, Generator, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn
from torch._ops import OperatorBase
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind
from torch.utils import _pytree as pytree

from chipfit.errors import InvalidGraph, InvalidInput
from chipfit.graph.graph import Input
from chipfit.graph.ops import Opaque
from chipfit.nets.draft import Draft, Unrepresentable
from chipfit.nets.network import Network
from chipfit.nets.pytorch.call import Call, Computed
from chipfit.nets.pytorch.lifted import REDUCTIONS, can_lift, lower, rewritten
from chipfit.nets.pytorch.operators import OPERATORS

# What a user's own forward and torch.export's tracing of it raise.
TRACING_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    RuntimeError,
    TypeError,
    ValueError,
)

TAKEN_APART = (
    "einsum", "addcmul", "addcdiv", "baddbmm", "glu", "selu", "cosine_similarity",
    "pairwise_distance", "channel_shuffle", "pixel_unshuffle", "tile", "repeat_interleave", "stack", "clip", "type_as",
    "norm", "tensordot",
)  # fmt: skip
"""Operators that PyTorch itself takes apart into those that a graph has words for."""

FILLED = {"zeros_like": 0.0, "ones_like": 1.0, "full_like": 0.0, "new_zeros": 0.0, "new_ones": 1.0, "new_full": 0.0}
"""Operators that read of a tensor only its shape, and the number that they fill it with."""

BROADCASTING = frozenset(("add", "sub", "rsub", "mul", "div", "maximum", "minimum"))

OpOverload = torch._ops.OpOverload  # pyright: ignore[reportPrivateUsage]
NON_DETERMINISTIC = torch.Tag.nondeterministic_seeded

LONGEST_MESSAGE = 200
"""Characters of a message of PyTorch that are told."""

Example = Sequence[int] | Sequence[Sequence[int]] | Tensor | Sequence[Tensor]


def import_torch(module: nn.Module, example: Example, name: str = "network") -> Network:
    """The network that a module computes in evaluation mode, with copies of its weights as float32.

    `example` is the shape of its input, batch first, or the input itself; for several inputs, a sequence of those. The
    batch of the graph is 1. Keys are paths of modules ("features.0.conv"); what a module does beside its parts gets the
    operator's name behind its path. A module that is used twice has its weights twice. What no node of a graph can say
    becomes an `Opaque`. Raises `InvalidInput` where the module cannot be exported.
    """
    inputs = _inputs(example)
    shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
    with _evaluating(module), warnings.catch_warnings(), torch.no_grad():
        # torch's own deprecations are no concern of who calls this.
        warnings.simplefilter("ignore")
        try:
            # A plain run first: what fails already here fails with one line, not with the log of the tracer.
            module(*inputs)
        except TRACING_ERRORS as error:
            raise InvalidInput(
                f"{type(module).__name__} does not run on inputs of shapes {shapes}: {_line(error)}; check the shapes"
            ) from None
        try:
            # Without decompositions operators stay what they are, and what was done in place no longer is.
            program = torch.export.export(module, inputs, strict=False).run_decompositions(_taken_apart())
        except TRACING_ERRORS as error:
            raise InvalidInput(
                f"{type(module).__name__} runs, but torch.export cannot trace it: {_line(error)}; "
                "its forward must not depend on values of tensors"
            ) from None
        try:
            return _Importer(module, program).network(name)
        except InvalidGraph as error:
            raise InvalidInput(f"{type(module).__name__}: {error}") from None


def _line(error: BaseException) -> str:
    """A message of PyTorch in one line; what follows its first paragraph is about PyTorch itself."""
    text = str(error)
    place = re.search(r'raised this error:\s+File "([^"]*)", line (\d+), in \S+\s+(.*)', text)
    first = " ".join(text.partition("\n\n")[0].split())
    short = first if len(first) <= LONGEST_MESSAGE else f"{first[:LONGEST_MESSAGE]}…"
    where = f" ({Path(place[1]).name}, line {place[2]}: {place[3].strip()})" if place else ""
    return f"{type(error).__name__}: {short}{where}"


def _inputs(example: Example) -> tuple[Tensor, ...]:
    """Example tensors with batch 1."""
    if isinstance(example, Tensor):
        given: list[Any] = [example]
    else:
        given = list(example)
        if given and all(isinstance(size, int) for size in given):
            given = [given]
    if not given:
        raise InvalidInput("a module needs the shape of its input, batch first, such as (1, 3, 224, 224)")
    tensors: list[Tensor] = []
    for item in given:
        if not isinstance(item, Tensor):
            sizes = [int(size) for size in item]
            if not sizes or min(sizes) < 1:
                raise InvalidInput(f"input shape {tuple(sizes)}: sizes are whole numbers from 1, batch first")
            item = torch.zeros(1, *sizes[1:])
        tensors.append(item[:1])
    return tuple(tensors)


@contextmanager
def _evaluating(module: nn.Module) -> Generator[None]:
    before = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in before.items():
            part.training = training


class _Importer:
    def __init__(self, module: nn.Module, program: ExportedProgram) -> None:
        self.program = program
        self.parts = dict(module.named_modules())
        self.values: dict[torch.fx.Node, Any] = {}
        signature = program.graph_signature
        names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        names |= signature.inputs_to_lifted_tensor_constants
        stored = {**program.state_dict, **program.constants}
        self.owners: dict[torch.fx.Node, str] = {}
        self.names: dict[int, str] = {}
        self.constants: dict[int, str] = {}
        self.kept: list[Any] = []
        inputs: list[Input] = []
        for node in program.graph.nodes:
            if node.op != "placeholder":
                continue
            if node.name in names:
                self.values[node] = stored[names[node.name]]
                self.owners[node] = names[node.name].rpartition(".")[0]
                self.names[id(self.values[node])] = names[node.name]
            elif isinstance(node.meta["val"], Tensor):
                inputs.append(Input(node.name, tuple(int(size) for size in node.meta["val"].shape)))
                self.values[node] = Computed(node.name)
        self.draft = Draft(inputs)
        self.last = self._last_of_each_part()

    def network(self, name: str) -> Network:
        for node in self.program.graph.nodes:
            if node.op == "call_function":
                self.values[node] = self._call(node)
            elif node.op == "get_attr":
                self.values[node] = operator.attrgetter(node.target)(self.program.graph_module)
        found = {node.name: value for node, value in self.values.items()}
        outputs: list[str] = []
        for item in self.program.graph_signature.output_specs:
            value = found.get(getattr(item.arg, "name", ""))
            if item.kind == OutputKind.USER_OUTPUT and isinstance(value, (Computed, Tensor)):
                outputs.append(Call(self.draft, "output", {"value": value}, self.names, self.constants).tensor("value"))
        if not outputs:
            raise InvalidInput(f"{name} gives no tensor; its forward must return one")
        return self.draft.finish(name, outputs, merge=True)

    def _call(self, node: torch.fx.Node) -> Any:
        args, kwargs = torch.fx.map_arg((node.args, node.kwargs), lambda source: _Value(self.values[source]))  # type: ignore[reportArgumentType]
        args, kwargs = pytree.tree_map(lambda item: item.value if isinstance(item, _Value) else item, (args, kwargs))
        if node.target is operator.getitem:
            return args[0][args[1]]
        leaves = pytree.tree_leaves((args, kwargs))
        target: Any = node.target
        seeded = isinstance(target, OpOverload) and NON_DETERMINISTIC in target.tags
        if not any(isinstance(leaf, Computed) for leaf in leaves) and not seeded:
            return target(*args, **kwargs)
        if not isinstance(target, OpOverload):
            raise InvalidInput(
                f"{getattr(target, '__name__', target)} depends on what is only known at run time{_place(node)}; "
                "shapes and control flow must not depend on values of tensors: cut the network before it"
            )
        if not target._schema.returns:  # pyright: ignore[reportPrivateUsage]
            return None
        name = _operator_name(target)
        arguments = _bound(target, args, kwargs)
        key = self._key(node, name)
        try:
            if target.namespace != "aten":
                raise Unrepresentable(name)
            if name in FILLED:
                return _filled(node.meta["val"], arguments.get("fill_value", FILLED[name]))
            return self._built(node, key, name, arguments)
        except (Unrepresentable, KeyError):
            # A KeyError is an argument that this overload of the operator does not have.
            return self._opaque(node, key, str(target).removesuffix(".default"), leaves)

    def _built(self, node: torch.fx.Node, key: str, name: str, arguments: dict[str, Any]) -> Any:
        """What an operator gives, with the batch in front where that can be, else lifted."""
        build = OPERATORS.get(name)
        if build is None:
            raise Unrepresentable(name)
        spared = name == "expand" and _broadcasts(node)
        tensors = {item: value for item, value in _listed(arguments).items() if isinstance(value, (Computed, Tensor))}
        if not any(isinstance(value, Computed) and value.lifted for value in tensors.values()):
            call = Call(self.draft, key, arguments, self.names, self.constants, spared)
            try:
                return self._checked(node, build(call), spared)
            except (Unrepresentable, KeyError):
                if name in REDUCTIONS:
                    raise
        shapes = {item: self._shape(value) for item, value in tensors.items()}
        if not can_lift(name, arguments, shapes):
            raise Unrepresentable(name)
        moved = rewritten(self.draft, name, arguments, shapes)
        # Constants are known by their identity: what was made here must not make way for another.
        self.kept.append(moved)
        return self._checked(
            node, build(Call(self.draft, key, moved, self.names, self.constants, lifted=True)), lifted=True
        )

    def _shape(self, value: Computed | Tensor) -> tuple[int, ...]:
        """PyTorch's shape of a tensor."""
        if isinstance(value, Tensor):
            return tuple(value.shape)
        return self.draft.shapes[value.key][1 if value.lifted else 0 :]

    def _checked(self, node: torch.fx.Node, built: str | list[str], spared: bool = False, lifted: bool = False) -> Any:
        """What was built, if it is as PyTorch has it. Raises `Unrepresentable` otherwise."""
        shapes = [tuple(value.shape) for value in pytree.tree_leaves(node.meta["val"]) if isinstance(value, Tensor)]
        keys = [built] if isinstance(built, str) else built
        read = [user.args[1] for user in node.users if user.target is operator.getitem]
        if any(isinstance(index, int) and index >= len(keys) for index in read):
            raise Unrepresentable("places of what was found")
        results: list[Computed] = []
        for key, shape in zip(keys, shapes, strict=False):
            if lifted:
                results.append(lower(self.draft, key, shape))
            elif spared or self.draft.shapes[key] == shape:
                results.append(Computed(key))
            else:
                raise Unrepresentable(f"shape {self.draft.shapes[key]} where PyTorch has {shape}")
        return results[0] if isinstance(built, str) else results

    def _opaque(self, node: torch.fx.Node, key: str, name: str, leaves: Sequence[Any]) -> Any:
        """One opaque node per output."""
        reads = tuple(leaf.key for leaf in leaves if isinstance(leaf, Computed))

        def build(value: Any) -> Any:
            if not isinstance(value, Tensor) or any(not isinstance(size, int) for size in value.shape):
                raise InvalidInput(
                    f"node {key!r}: the operator {name!r} is unknown and so is the shape of what it gives; "
                    "cut the network before it"
                )
            lifted = tuple(value.shape[:1]) != (1,)
            size = (1, *value.shape) if lifted else tuple(value.shape)
            return Computed(self.draft.add(key, Opaque(name, size), reads), lifted)

        return pytree.tree_map(build, node.meta["val"])

    def _path(self, node: torch.fx.Node) -> str:
        """Path of the innermost module that an operator is part of; a second call of a module ends in @1."""
        stack = list(node.meta.get("nn_module_stack", {}).values())
        return stack[-1][0] if stack else ""

    def _key(self, node: torch.fx.Node, name: str) -> str:
        owners = [self.owners[source] for source in node.all_input_nodes if self.owners.get(source)]
        path = owners[0] if owners else self._path(node)
        part = path.partition("@")[0]
        if part and self._is_leaf(part) and (owners or self.last.get(path) is node):
            return part
        return f"{part}.{name}" if part else name

    def _is_leaf(self, path: str) -> bool:
        return path in self.parts and not list(self.parts[path].children())

    def _last_of_each_part(self) -> dict[str, torch.fx.Node]:
        """The last operator of every call of a module without parts: it stands for the module."""
        moving = {node for node, value in self.values.items() if isinstance(value, Computed)}
        last: dict[str, torch.fx.Node] = {}
        for node in self.program.graph.nodes:
            if node.op == "call_function" and any(source in moving for source in node.all_input_nodes):
                moving.add(node)
                path = self._path(node)
                if self._is_leaf(path.partition("@")[0]) and node.target is not operator.getitem:
                    last[path] = node
        return last


class _Value:
    """Wraps what a node of the traced graph stands for, as lists among them must not be taken apart."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _taken_apart() -> dict[OperatorBase, Callable[..., Any]]:
    """PyTorch's own ways to say operators in simpler ones, for those that a graph has no word for."""
    table = torch.export.default_decompositions()
    return {target: table[target] for name in TAKEN_APART for target in _overloads(name) if target in table}


def _overloads(name: str) -> list[OpOverload]:
    packet = getattr(torch.ops.aten, name)
    return [getattr(packet, overload) for overload in packet.overloads()]


def _listed(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments, with "tensors.0" for the first of a list under "tensors"."""
    parts = {f"tensors.{index}": part for index, part in enumerate(arguments.get("tensors") or ())}
    return {item: value for item, value in arguments.items() if item != "tensors"} | parts


def _broadcasts(node: torch.fx.Node) -> bool:
    """Whether all that reads a repeated tensor works element by element and repeats it anyway."""

    def repeats(user: torch.fx.Node) -> bool:
        others = [source for source in user.all_input_nodes if source is not node and not _is(source, {"expand"})]
        shape = _shape_of(user)
        return _is(user, BROADCASTING) and any(_shape_of(source) == shape for source in others)

    return bool(node.users) and all(repeats(user) for user in node.users)


def _is(node: torch.fx.Node, names: Set[str]) -> bool:
    return isinstance(node.target, OpOverload) and _operator_name(node.target) in names


def _shape_of(node: torch.fx.Node) -> tuple[Any, ...] | None:
    value = node.meta.get("val")
    return tuple(value.shape) if isinstance(value, Tensor) else None


def _filled(like: Tensor, value: float) -> Tensor:
    if any(not isinstance(size, int) for size in like.shape):
        raise Unrepresentable("a shape that depends on values")
    return torch.full(tuple(like.shape), value, dtype=like.dtype)


def _place(node: torch.fx.Node) -> str:
    """Where in the user's code an operator stands."""
    frames = re.findall(r'File "([^"]*)", line (\d+)', node.meta.get("stack_trace") or "")
    return f" ({Path(frames[-1][0]).name}, line {frames[-1][1]})" if frames else ""


def _operator_name(target: OpOverload) -> str:
    """ "conv2d" for aten::conv2d, "add" for aten::add.Tensor."""
    return target.name().partition("::")[2].partition(".")[0]


def _bound(target: OpOverload, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by name, defaults included."""
    bound: dict[str, Any] = {}
    for index, argument in enumerate(target._schema.arguments):  # pyright: ignore[reportPrivateUsage]
        default = argument.default_value if argument.has_default_value() else None
        bound[argument.name] = args[index] if index < len(args) else kwargs.get(argument.name, default)
    return bound

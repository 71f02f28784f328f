"""Networks from PyTorch modules, through torch.export."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind
from torch.utils import _pytree as pytree

from chipfit.errors import InvalidGraph, InvalidInput
from chipfit.graph.graph import Input
from chipfit.graph.ops import Opaque
from chipfit.nets.draft import Draft, Unrepresentable
from chipfit.nets.network import Network
from chipfit.nets.pytorch.call import Call, Computed
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

OpOverload = torch._ops.OpOverload  # pyright: ignore[reportPrivateUsage]
NON_DETERMINISTIC = torch.Tag.nondeterministic_seeded

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
            program = torch.export.export(module, inputs, strict=False).run_decompositions({})
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
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


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
        return self.draft.finish(name, outputs)

    def _call(self, node: torch.fx.Node) -> Any:
        args, kwargs = torch.fx.map_arg((node.args, node.kwargs), lambda source: _Value(self.values[source]))  # type: ignore[reportArgumentType]
        args, kwargs = pytree.tree_map(lambda item: item.value if isinstance(item, _Value) else item, (args, kwargs))
        if node.target is operator.getitem:
            return args[0][args[1]]
        leaves = pytree.tree_leaves((args, kwargs))
        target = node.target
        if not isinstance(target, OpOverload):
            raise InvalidInput(f"{target} is nothing that torch.export promises to give; report the module")
        if not any(isinstance(leaf, Computed) for leaf in leaves) and NON_DETERMINISTIC not in target.tags:
            return target(*args, **kwargs)
        name = _operator_name(target)
        key = self._key(node, name)
        call = Call(self.draft, key, _bound(target, args, kwargs), self.names, self.constants)
        build = OPERATORS.get(name) if target.namespace == "aten" else None
        try:
            if build is None:
                raise Unrepresentable(name)
            built = build(call)
        except (Unrepresentable, KeyError):
            # A KeyError is an argument that this overload of the operator does not have.
            return self._opaque(node, key, str(target).removesuffix(".default"), leaves)
        return Computed(built) if isinstance(built, str) else [Computed(part) for part in built]

    def _opaque(self, node: torch.fx.Node, key: str, name: str, leaves: Sequence[Any]) -> Any:
        """One opaque node per output."""
        reads = tuple(leaf.key for leaf in leaves if isinstance(leaf, Computed))

        def build(value: Any) -> Any:
            if not isinstance(value, Tensor) or any(not isinstance(size, int) for size in value.shape):
                raise InvalidInput(
                    f"node {key!r}: the operator {name!r} is unknown and so is the shape of what it gives; "
                    "cut the network before it"
                )
            return Computed(self.draft.add(key, Opaque(name, tuple(value.shape)), reads))

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

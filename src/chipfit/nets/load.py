"""One way in for every form in which a network is given."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chipfit.errors import InvalidInput
from chipfit.files import USER_ERRORS, named
from chipfit.nets.network import Network
from chipfit.nets.zoo import ZOO, from_zoo

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import nn

FORMS = "an .onnx or .tflite file, module:function for PyTorch, or a name from the zoo"


def load(
    model: str | Path | nn.Module | Network | ModelProto,
    *,
    input_shape: Any = None,
    seed: int = 0,
    classes: int | None = None,
) -> Network:
    """The network that `model` stands for.

    `model` is a `Network` (handed back), a PyTorch module, an ONNX model, the path of an .onnx or .tflite file,
    "module:function" for a function without arguments that gives a module, a network or a pair (module, input shape),
    or a name from the zoo, whose weights `seed` draws and whose last layer has `classes` outputs. `input_shape`, batch
    first and channels before height and width, is needed for PyTorch modules that have no `example_input`, and for
    files with open sizes. Raises `InvalidInput` for what cannot be read.
    """
    if isinstance(model, Network):
        return model
    if isinstance(model, (str, Path)):
        return _by_name(str(model), input_shape, seed, classes)
    return _from_object(model, "network", input_shape, "")


def _by_name(text: str, input_shape: Any, seed: int, classes: int | None) -> Network:
    path, suffix = Path(text), Path(text).suffix.lower()
    if suffix in (".onnx", ".tflite") and not path.is_file():
        raise InvalidInput(f"{text}: there is no such file{_similar_files(path)}")
    if suffix == ".tflite":
        from chipfit.nets.tflite.importer import import_tflite

        return import_tflite(path, input_shape=input_shape)
    if suffix == ".onnx":
        from chipfit.nets.onnx.importer import import_onnx

        return import_onnx(path, input_shape=input_shape)
    if suffix in (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".safetensors"):
        raise InvalidInput(
            f"{text}: a weight file is no network, and pickles are never loaded; "
            "write a function that gives the module with its weights, and name it as module:function"
        )
    if ":" in text and not path.exists():
        return _from_function(text, input_shape)
    if text.split("-")[0] in ZOO:
        return from_zoo(text, seed, classes)
    if path.exists():
        raise InvalidInput(f"{text}: not a form that chipfit reads; give {FORMS}")
    near = difflib.get_close_matches(text, ZOO, n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else f"; the zoo has {', '.join(ZOO)}"
    raise InvalidInput(f"{text}: neither a file nor a network of the zoo; give {FORMS}{hint}")


def _similar_files(path: Path) -> str:
    if not path.parent.is_dir():
        return f", nor a directory {path.parent}; check the path"
    there = sorted(item.name for item in path.parent.iterdir() if item.suffix.lower() == path.suffix.lower())
    near = difflib.get_close_matches(path.name, there, n=3, cutoff=0.4) or there[:3]
    return f"; in {path.parent} there is {', '.join(near)}" if near else "; check the path"


def _from_function(text: str, input_shape: Any) -> Network:
    function = named(text, "model")
    if not callable(function):
        raise InvalidInput(f"{text}: a {type(function).__name__} is no function that gives a module")
    if input_shape is None:
        input_shape = getattr(function, "example_input", None)
    # A module is callable as well: it is what was asked for, not what gives it.
    if _is_module(function):
        return _from_object(function, text.partition(":")[2], input_shape, text)
    try:
        given = function()
    except USER_ERRORS as error:
        reason = " ".join(str(error).split())
        raise InvalidInput(f"{text}: the function fails with {type(error).__name__}: {reason}") from None
    if isinstance(given, tuple) and len(given) == 2:  # type: ignore[reportUnknownArgumentType]
        given, shape = given  # type: ignore[reportUnknownVariableType]
        input_shape = shape if input_shape is None else input_shape
    if isinstance(given, Network):
        return given
    return _from_object(given, text.partition(":")[2], input_shape, text)


def _is_module(item: object) -> bool:
    from torch import nn

    return isinstance(item, nn.Module)


def _from_object(model: Any, name: str, input_shape: Any, text: str) -> Network:
    where = f"{text}: " if text else ""
    if _is_module(model):
        from chipfit.nets.pytorch.importer import import_torch

        example = getattr(model, "example_input", None) if input_shape is None else input_shape
        if example is None:
            raise InvalidInput(
                f"{where}a PyTorch module does not say the shape of its input; give input_shape=, batch first, "
                "or let the function give a pair (module, input shape)"
            )
        return import_torch(model, example, name)
    from onnx import ModelProto

    if isinstance(model, ModelProto):
        from chipfit.nets.onnx.importer import import_onnx

        return import_onnx(model, input_shape=input_shape)
    raise InvalidInput(f"{where}a {type(model).__name__} is no network; give {FORMS}")

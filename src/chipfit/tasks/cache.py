"""Arrays kept in files between runs: written whole or not at all, checked when read."""

import hashlib
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipfit.files import whole_file

Arrays = Mapping[str, NDArray[Any]]


def digest(arrays: Arrays) -> str:
    """Hex digest of names, shapes, types and contents; the order of the names does not matter."""
    state = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        state.update(f"{name} {array.shape} {array.dtype.str}\n".encode())
        state.update(array.reshape(-1).view(np.uint8).data)
    return state.hexdigest()


def fingerprint(names: Sequence[str], splits: Mapping[str, Arrays]) -> str:
    """Hex digest of a task's classes and of the arrays of its splits, in their order."""
    state = hashlib.blake2b("\n".join(names).encode(), digest_size=16)
    for arrays in splits.values():
        state.update(digest(arrays).encode())
    return state.hexdigest()


def read_arrays(path: Path) -> dict[str, NDArray[Any]] | None:
    """The arrays that `write_arrays` left at `path`; None if there are none or they are damaged."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError):
        return None
    expected = arrays.pop("digest", None)
    if expected is None or str(expected) != digest(arrays):
        return None
    return arrays


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Writes an .npz with its digest; a reader sees the old file or the new one, never a part.

    Raises `StorageFull` where the disk is full, `InvalidInput` where `path` cannot be written for another reason.
    """
    contents: dict[str, Any] = {**arrays, "digest": np.array(digest(arrays))}
    with whole_file(path, "point CHIPFIT_CACHE at a directory that can be written") as file:
        np.savez(file, allow_pickle=False, **contents)

"""Arrays kept in files between runs: written whole or not at all, checked when read."""

import errno
import hashlib
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput, StorageFull

Arrays = Mapping[str, NDArray[Any]]


def cache_directory(directory: Path | None = None) -> Path:
    """Where rendered and decoded arrays are kept: `directory`, else $CHIPFIT_CACHE, else ~/.cache/chipfit."""
    if directory is not None:
        return Path(directory)
    return Path(os.environ.get("CHIPFIT_CACHE") or Path.home() / ".cache" / "chipfit")


def digest(arrays: Arrays) -> str:
    """Hex digest of names, shapes, types and contents; the order of the names does not matter."""
    state = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        state.update(f"{name} {array.shape} {array.dtype.str}\n".encode())
        state.update(array.reshape(-1).view(np.uint8).data)
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
    """Write an .npz with its digest; a reader sees the old file or the new one, never a part.

    Raises StorageFull if the disk is full, InvalidInput if the directory cannot be written.
    """
    remedy = "point CHIPFIT_CACHE at a directory that can be written"
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.stem, suffix=".part", delete=False) as file:
            temporary = Path(file.name)
            contents: dict[str, Any] = {**arrays, "digest": np.array(digest(arrays))}
            np.savez(file, allow_pickle=False, **contents)
        temporary.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"{path}: the disk is full; free some space or {remedy}") from error
        raise InvalidInput(f"{path}: cannot be written ({error.strerror}); {remedy}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)

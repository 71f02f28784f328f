"""Files that are either whole or not there, the cache directory, and names of things in a user's own modules."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import secrets
import sys
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

from chipfit.errors import InvalidInput, StorageFull

PARTIAL = ".partial"

USER_ERRORS = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, OSError, RuntimeError,
    TypeError, ValueError,
)  # fmt: skip
"""What a user's own code raises while it runs here."""


@contextlib.contextmanager
def whole_file(path: Path, remedy: str = "give another place") -> Generator[BinaryIO]:
    """A file to write to; whatever stood at `path` stays whole until the block has ended and all is on disk.

    Raises `StorageFull` where the disk is full, `InvalidInput` where `path` cannot be written for another reason, with
    the `remedy` for that.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _keep_name(path.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageFull(
                f"no space left for {path}; free some and run the same again, older files are intact"
            ) from None
        raise InvalidInput(f"cannot write {path}: {error.strerror}; {remedy}") from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all; raises what `whole_file` raises."""
    with whole_file(path) as file:
        file.write(content)


def _keep_name(directory: Path) -> None:
    """Makes a rename last: without it a power cut can undo what is already on disk."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_partials(directory: Path) -> None:
    """Removes what writers that were killed have left in a directory that nobody writes to now."""
    for partial in directory.glob(f".*{PARTIAL}"):
        partial.unlink(missing_ok=True)


def cache_directory() -> Path:
    """Where rendered data and fitted estimators are kept: the environment's CHIPFIT_CACHE, else ~/.cache/chipfit."""
    return Path(os.environ.get("CHIPFIT_CACHE") or Path.home() / ".cache" / "chipfit")


def named(spec: str, what: str) -> object:
    """The object that "module:NAME" names; the current directory is searched as well.

    `what` says in a message what the name stands for. Raises `InvalidInput` where there is no such module or name.
    """
    module_name, _, name = spec.partition(":")
    if not module_name or not name:
        raise InvalidInput(f"{what} {spec!r}: write module:NAME")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise InvalidInput(f"{what} {spec!r}: cannot import {module_name} ({error}); is it on the path?") from None
    except Exception as error:  # a user's module may raise anything while it is imported
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InvalidInput(f"{what} {spec!r}: {module_name} fails on import with {reason}") from None
    if not hasattr(module, name):
        raise InvalidInput(f"{what} {spec!r}: {module_name} has no {name!r}")
    return getattr(module, name)

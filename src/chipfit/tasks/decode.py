"""Compressed images to one array, in parallel; Pillow releases the interpreter while it decodes."""

import hashlib
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageOps

from chipfit.errors import InvalidInput
from chipfit.files import cache_directory
from chipfit.tasks.cache import read_arrays, write_arrays

CACHE_FROM_BYTES = 16 * 2**20
"""Arrays from this size on are kept; smaller ones decode faster than a person notices."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One compressed image: `name` for messages, and its bytes or the file that holds them."""

    name: str
    content: bytes | Path

    def read(self) -> bytes:
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


Fit = Literal["cut", "stretch", "labels"]
"""How a picture becomes square: its middle is cut out, or it is stretched; "labels" stretches masks of one channel,
whose values are classes, and mixes none of them."""


def decode(
    pictures: Sequence[Picture], size: int | None, cache: Path | None, fit: Fit = "cut"
) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """RGB images, uint8 (n, height, width, 3), and why some of them could not be read, by index.

    size: height and width to scale to, as `fit` says; with the fit "labels" images are (n, height, width, 1). None
    keeps them as they are, which needs all of one size. What cannot be read stays black. Large results are kept in
    `cache`. Raises InvalidInput if sizes differ and none is asked for.
    """
    path = (cache or cache_directory()) / f"decoded-{_key(pictures, size, fit)}.npz"
    stored = read_arrays(path)
    if stored is not None and "images" in stored and len(stored["images"]) == len(pictures):
        return stored["images"], {}
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        # Handing over one small image at a time would cost more than decoding it.
        parts = [pictures[start : start + 64] for start in range(0, len(pictures), 64)]
        decoded_parts = pool.map(lambda part: [_decode_one(picture, size, fit) for picture in part], parts)
        results = [result for part in decoded_parts for result in part]
    failed = {index: result for index, result in enumerate(results) if isinstance(result, str)}
    decoded = {index: result for index, result in enumerate(results) if not isinstance(result, str)}
    first = next(iter(decoded), None)
    shape = (size or 1, size or 1, 1 if fit == "labels" else 3) if first is None else decoded[first].shape
    images = np.zeros((len(pictures), *shape), dtype=np.uint8)
    for index, image in decoded.items():
        if image.shape != shape:
            raise InvalidInput(
                f"{pictures[index].name} is {image.shape[1]}x{image.shape[0]} pixels, the first image"
                f" {shape[1]}x{shape[0]}; give a size to scale them to"
            )
        images[index] = image
    if images.nbytes >= CACHE_FROM_BYTES and not failed:
        write_arrays(path, {"images": images})
    return images, failed


def _key(pictures: Sequence[Picture], size: int | None, fit: Fit) -> str:
    # Decoders differ in the last bit from version to version.
    how = f"{PIL.__version__} {size}" + (f" {fit}" if fit != "cut" else "")
    state = hashlib.blake2b(how.encode(), digest_size=16)
    for picture in pictures:
        try:
            content = picture.read()
        except OSError:
            # An unreadable file is reported when it is decoded.
            content = b""
        state.update(len(content).to_bytes(8, "little"))
        state.update(content)
    return state.hexdigest()


def _labels(image: Image.Image, size: int | None) -> NDArray[np.uint8]:
    """A mask (height, width, 1): the values of a grey picture or the indices of one with a palette."""
    if image.mode not in ("L", "P", "1"):
        raise ValueError(f"its mode is {image.mode}, not L or P: a mask has one channel whose values are classes")
    sized = image if size is None else image.resize((size, size), Image.Resampling.NEAREST)
    return np.asarray(sized).astype(np.uint8)[..., None]


def _decode_one(picture: Picture, size: int | None, fit: Fit) -> NDArray[np.uint8] | str:
    """The image, or why it cannot be read."""
    try:
        with Image.open(io.BytesIO(picture.read())) as image:
            if fit == "labels":
                return _labels(image, size)
            if size is not None:
                # Lets the JPEG decoder leave out detail that scaling would drop anyway.
                image.draft("RGB", (2 * size, 2 * size))
            # Looking for an orientation costs more than decoding a small image.
            upright = ImageOps.exif_transpose(image) if "exif" in image.info else image
            upright = upright.convert("RGB")
            if size is not None and upright.size != (size, size):
                if fit == "cut":
                    upright = ImageOps.fit(upright, (size, size), Image.Resampling.BILINEAR)
                else:
                    upright = upright.resize((size, size), Image.Resampling.BILINEAR)
            return np.asarray(upright)
    # A broken PNG is a SyntaxError for Pillow, a broken TIFF or EXIF block may be any of the others.
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        TypeError,
        KeyError,
        IndexError,
        OverflowError,
    ) as error:
        return str(error) or type(error).__name__
    except Image.DecompressionBombError as error:
        return str(error)

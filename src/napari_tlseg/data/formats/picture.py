"""PNG and JPEG."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL.Image import fromarray
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from napari_tlseg.data.case import Labels
from napari_tlseg.data.files import atomic_path
from napari_tlseg.data.formats.opened import Opened, Pixels, first_channels, suffix_of
from napari_tlseg.data.geometry import Geometry
from napari_tlseg.errors import InputError

_KINDS: dict[bytes, type[ImageFile]] = {b"\x89P": PngImageFile, b"\xff\xd8": JpegImageFile}
"""By their first bytes. Not `PIL.Image.open`, which takes a large photograph for an attack."""
_SIXTEEN_BIT_COLOUR = ("RGB;16B", "RGBA;16B", "LA;16B")
"""What PIL would cut to 8 bits."""


@contextmanager
def open_picture(path: Path) -> Iterator[Opened]:
    with path.open("rb") as stream:
        kind = _KINDS.get(stream.read(2))
        stream.seek(0)
        if kind is None:
            raise InputError("is neither PNG nor JPEG inside", path, "export it again in the format its name says")
        with kind(stream) as image:
            yield Opened(
                geometry=Geometry(shape=(image.height, image.width), spacing=(1.0, 1.0)),
                values=lambda: _values(path, image),
                palette=_palette(image),
                lossy=kind is JpegImageFile,
            )


def _values(path: Path, image: ImageFile) -> Pixels:
    """Not turned by EXIF: a click is an index of the array as stored."""
    if image.tile[0].args in _SIXTEEN_BIT_COLOUR:
        array = imagecodecs.png_decode(path.read_bytes())
    else:
        image.load()
        array = np.array(image.convert({"1": "L", "CMYK": "RGB"}.get(image.mode, image.mode)))
    alpha = array.ndim == 3 and array.shape[2] in (2, 4)
    return first_channels(array, array.shape[2] - 1) if alpha else array


def _palette(image: ImageFile) -> NDArray[np.uint8] | None:
    if image.palette is None:
        return None
    colours = np.frombuffer(image.palette.getdata()[1], np.uint8).reshape(-1, 3)  # `getpalette` would decode the pixels
    return np.pad(colours, ((0, 256 - len(colours)), (0, 0)))


def write_picture(path: Path, labels: Labels, classes: int) -> None:
    """Two classes as 0/255, more as they are; one plane, no JPEG."""
    if suffix_of(path) != ".png":
        raise InputError("would blur the class numbers, being a JPEG", path, "write a .png")
    if labels.ndim == 3 and len(labels) > 1:
        raise InputError("cannot hold a volume, being a PNG", path, "write a .nii.gz or a .tif")
    plane = labels.reshape(labels.shape[-2:])
    with atomic_path(path) as temporary:
        fromarray(plane * np.uint8(255) if classes == 2 else plane).save(temporary, format="PNG")

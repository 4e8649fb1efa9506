"""The image of a case: of one file, or of several that are its channels, named as nnU-Net names them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from napari_tlseg.data.case import Case, Image
from napari_tlseg.data.formats import case_name, read_geometry, read_image
from napari_tlseg.data.formats.masks import check_grid
from napari_tlseg.data.tables import nfc
from napari_tlseg.errors import InputError

NUMBER = re.compile(r"(.+)_\d{4}")
"""Case `a` has the files a_0000.nii.gz, a_0001.nii.gz and so on."""
MOST = 8
"""Files per case that look like channels; more are a series of images."""


def image_of(case: Case) -> Image:
    """The pixels, in the files' own values; InputError where a channel is no grey image."""
    first = read_image(case.image, case.page)
    if not case.further:
        return first
    channels = [first, *map(read_image, case.further)]
    for path, channel in zip(case.files, channels, strict=True):
        if channel.array.ndim > len(channel.geometry.shape):
            raise InputError("is in colour", path, "save each channel as one grey image")
    array = np.stack([channel.array.reshape(case.geometry.shape) for channel in channels], axis=-1)
    return Image(array, case.geometry, case.image, modalities=True)


def together(paths: Iterable[Path]) -> list[tuple[Path, ...]]:
    """The files that are called alike but for their number, in order."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        groups[_stem(path)].append(path)
    return [tuple(sorted(group, key=case_name)) for group in groups.values()]


def join(files: Sequence[Path], channels: Sequence[str]) -> Case:
    """One case of the files of its channels; only headers are read. InputError where they are not all there, or do not
    lie on one grid.
    """
    name, first = _stem(files[0]), files[0]
    expected = [f"{name}_{number:04}" for number in range(len(channels))]
    if [nfc(case_name(path)) for path in files] != expected:
        found = ", ".join(path.name for path in files)
        named = ", ".join(f"{each} ({channel})" for each, channel in zip(expected, channels, strict=True))
        raise InputError(f"{found}: these are not the channels of a case", first.parent, f"expected {named}")
    geometry = read_geometry(first)
    for path in files[1:]:
        remedy = "register the channels of a case, and save them on one grid"
        check_grid(path, read_geometry(path), geometry, f"channel {first.name}", remedy)
    return Case(name=name, image=first, further=tuple(files[1:]), geometry=geometry)


def look_like_channels(paths: Sequence[Path]) -> bool:
    """Whether all images could be numbered channels of several cases."""
    counts = [len(group) for group in together(paths)]
    return len(counts) > 1 and 1 < counts[0] <= MOST and len({*counts}) == 1


def _stem(path: Path) -> str:
    """The name of the case."""
    name = nfc(case_name(path))
    numbered = NUMBER.fullmatch(name)
    return numbered[1] if numbered else name

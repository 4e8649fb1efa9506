"""DICOM: one file, or a folder with the slices of one series; a CT is in HU.

The decoding is GDCM's, through SimpleITK: plain, RLE, JPEG, JPEG-LS and JPEG 2000, single and multi-frame. Where the
slices lie is worked out here from their positions, as GDCM neither misses a slice nor sorts the frames of a file.
"""

from __future__ import annotations

import locale
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from napari_tlseg.data.formats.opened import DICOM_SUFFIX, IMAGE_SUFFIXES, Opened, Pixels
from napari_tlseg.data.geometry import Geometry
from napari_tlseg.errors import InputError

_NO_IMAGES = tuple(
    f"1.2.840.10008.{uid}"
    for uid in (
        "1.3.10",  # DICOMDIR
        "5.1.4.1.1.9.",  # waveforms
        "5.1.4.1.1.11.",  # presentation states
        "5.1.4.1.1.66",  # raw data, registrations, segmentations
        "5.1.4.1.1.88.",  # reports
        "5.1.4.1.1.104.",  # documents
        "5.1.4.1.1.481.3",  # structures
        "5.1.4.1.1.481.5",  # plans
    )
)
"""SOP classes that lie among the slices of a series and are passed over."""
_UNEVEN = 0.1
"""By how much of the usual distance two neighbouring slices may be off it: positions are often rounded."""
_TOGETHER = 1e-3
"""mm within which two slices lie at the same place."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _File:
    """What the header of one file says; lengths in mm, directions in LPS."""

    path: Path
    series: str
    title: str
    shape: tuple[int, int]
    frames: int
    spacing: tuple[float, float] | None
    """(Y, X)."""
    thickness: float
    axes: NDArray[np.float64]
    """(3, 2): where x and y go."""
    positions: NDArray[np.float64]
    """(frames, 3) of the first pixel of each frame; (0, 3) where it is not said."""

    @property
    def heights(self) -> NDArray[np.float64]:
        """How far along the normal of the slices each frame lies."""
        heights: NDArray[np.float64] = self.positions @ np.cross(*self.axes.T)
        return heights


@contextmanager
def open_dicom(path: Path) -> Iterator[Opened]:
    """A file, or all the images of a folder as one volume, sorted along the normal of its slices."""
    paths = dicom_files(path) if path.is_dir() else [path]
    if not paths:
        raise InputError("is a folder without DICOM images", path, "name the folder of one series")
    files = [_read_header(each) for each in paths]
    _require_one_volume(path, files)
    if len(files) > 1:
        files.sort(key=lambda file: float(file.heights[0]))
    order = np.argsort(np.concatenate([file.heights for file in files]), kind="stable")
    geometry = _place(path, files, order) if len(order) else _unplaced(files[0])
    yield Opened(geometry=geometry, values=lambda: _values(files, order, geometry))


def holds_dicom(folder: Path) -> bool:
    """Whether there is any DICOM image in this very folder."""
    return any(map(_is_image, _visible_files(folder)))


def dicom_files(folder: Path) -> list[Path]:
    """The DICOM images in this very folder by name, whatever their ending."""
    return [path for path in _visible_files(folder) if _is_image(path)]


def _visible_files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.name[0] != "." and path.is_file())
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", folder, "ask for access to it") from None


def _is_image(path: Path) -> bool:
    """By its first bytes; of a file without the usual ones by its ending."""
    if path.name.lower().endswith(IMAGE_SUFFIXES):
        return False
    try:
        with path.open("rb") as stream:
            head = stream.read(512)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", path, "ask for access to it") from None
    if head[128:132] != b"DICM":
        return path.suffix.lower() == DICOM_SUFFIX
    sop_class = re.search(rb"\x02\x00\x02\x00UI..([\d.]*)", head, re.DOTALL)
    return sop_class is None or not sop_class[1].decode().startswith(_NO_IMAGES)


@contextmanager
def _decoding(path: Path) -> Iterator[sitk.ImageFileReader]:
    """A reader of this file that keeps its warnings to itself and complains in a sentence.

    GDCM leaves the process with the locale C, in which Python opens text files as ASCII: it is put back.
    """
    language = locale.setlocale(locale.LC_ALL)
    warn = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        yield reader
    except RuntimeError as error:
        reason = "cannot be read as a DICOM image (it is cut off, damaged or no image)"
        raise InputError(reason, path, "export it again, or take it out of the folder") from error
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(warn)
        locale.setlocale(locale.LC_ALL, language)


def _read_header(path: Path) -> _File:
    with _decoding(path) as reader:
        reader.ReadImageInformation()

    def tag(name: str) -> str:
        return reader.GetMetaData(name).strip(" \0") if reader.HasMetaDataKey(name) else ""

    columns, rows, frames = (*reader.GetSize(), 1)[:3]
    axes, positions = _placed_frames(path, frames) if frames > 1 else (None, np.empty((0, 3)))
    if tag("0020|0032") and tag("0020|0037"):
        positions = np.array([reader.GetOrigin()])[:frames]
    if reader.GetNumberOfComponents() > 1:  # a photograph, whatever its writer filled in
        positions = positions[:0]
    if axes is None:
        axes = np.array(reader.GetDirection()).reshape(3, 3)[:, :2]
    x, y = reader.GetSpacing()[:2]
    measured = len(positions) or tag("0028|0030") or tag("0018|1164")
    return _File(
        path=path,
        series=tag("0020|000e"),
        title=tag("0008|103e") or f"number {tag('0020|0011') or '?'}",
        shape=(rows, columns),
        frames=frames,
        spacing=(y, x) if measured else None,
        thickness=_length(tag("0018|0088")) or _length(tag("0018|0050")) or 1.0,
        axes=axes,
        positions=positions,
    )


def _length(text: str) -> float:
    try:
        return abs(float(text))
    except ValueError:
        return 0.0


def _placed_frames(path: Path, frames: int) -> tuple[NDArray[np.float64] | None, NDArray[np.float64]]:
    """(3, 2) directions and (frames, 3) positions of a multi-frame file; no positions where not each frame has one.

    They lie in nested sequences that SimpleITK does not give away, so the little-endian header is searched for them.
    """
    header = path.read_bytes().partition(b"\xe0\x7f\x10\x00O")[0]
    positions = _numbers(header, b"\x32\x00", 3)
    directions = _numbers(header, b"\x37\x00", 6)
    if len(positions) != frames or not len(directions):
        return None, np.empty((0, 3))
    if np.ptp(directions, axis=0).max() > 1e-4:
        reason = "holds frames that lie in different directions"
        raise InputError(reason, path, "export the axial ones as a series of their own")
    return directions[0].reshape(2, 3).T, positions


def _numbers(header: bytes, element: bytes, count: int) -> NDArray[np.float64]:
    """(M, count) values of the elements (0020, `element`), with or without their type spelt out."""
    found = re.findall(rb"\x20\x00" + re.escape(element) + rb"(?:DS..|..\x00\x00)([-+\d.eE \\]+)", header, re.DOTALL)
    rows = [[float(number) for number in text.split(b"\\")] for text in found if text.count(b"\\") == count - 1]
    return np.array(rows, dtype=np.float64).reshape(-1, count)


def _require_one_volume(path: Path, files: Sequence[_File]) -> None:
    if len(files) == 1:
        return
    series = defaultdict(list)
    for file in files:
        series[file.series].append(file.title)
    if len(series) > 1:
        named = [f"'{titles[0]}' ({len(titles)} files)" for titles in series.values()]
        listed = ", ".join(named[:4]) + (", …" if len(named) > 4 else "")
        raise InputError(f"holds {len(series)} DICOM series: {listed}", path, "put each series in a folder of its own")
    if many := next((file for file in files if file.frames > 1), None):
        raise InputError(f"holds {many.path.name}, a volume of its own", path, "put it in a folder of its own")
    if lost := next((file for file in files if not len(file.positions)), None):
        reason = f"is no volume ({lost.path.name} has no position in the body, or is in colour)"
        raise InputError(reason, path, "export the series again, or give each picture a folder of its own")
    for file in files[1:]:
        if not _alike(files[0], file):
            pair = f"{files[0].path.name}, {file.path.name}"
            reason = f"holds slices of different size, spacing or direction ({pair})"
            raise InputError(reason, path, "keep the slices of one volume, without scout views")


def _alike(one: _File, other: _File) -> bool:
    pairs = ((one.spacing or (), other.spacing or ()), (one.axes, other.axes))
    return one.shape == other.shape and all(np.allclose(a, b, rtol=1e-3, atol=1e-3) for a, b in pairs)


def _place(path: Path, files: Sequence[_File], order: NDArray[np.intp]) -> Geometry:
    """The geometry of frames in this order; the step from one to the next may lean (a tilted gantry)."""
    file = files[0]
    positions = np.concatenate([each.positions for each in files])[order]
    normal = np.cross(*file.axes.T)
    _require_even(path, positions @ normal)
    steps = max(len(positions) - 1, 1)
    step = (positions[-1] - positions[0]) / steps if len(positions) > 1 else normal * file.thickness
    y, x = file.spacing or (1.0, 1.0)
    affine = np.eye(4)
    affine[:3] = np.column_stack([file.axes * (x, y), step, positions[0]])
    return Geometry(
        shape=(len(positions), *file.shape),
        spacing=(float(np.linalg.norm(step)), y, x),
        unit="mm",
        affine=np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine,  # LPS to RAS
    )


def _unplaced(file: _File) -> Geometry:
    """A photograph, an X-ray, a film: frames that the file does not lay out in space."""
    shape = file.shape if file.frames == 1 else (file.frames, *file.shape)
    if len(shape) == 2 and file.spacing:
        return Geometry(shape=shape, spacing=file.spacing, unit="mm")
    return Geometry(shape=shape, spacing=(1.0,) * len(shape))


def _require_even(path: Path, heights: NDArray[np.float64]) -> None:
    """No place is taken twice and none is left out; `heights` in mm, ascending."""
    gaps = np.diff(heights)
    if (gaps < _TOGETHER).any():
        reason = f"holds several images at the same place ({heights[gaps.argmin()]:.6g} mm along the slice axis)"
        raise InputError(reason, path, "keep one phase or echo, or put each in a folder of its own")
    usual = np.sort(gaps)[(len(gaps) - 1) // 2] if len(gaps) else 0.0
    odd = np.flatnonzero(np.abs(gaps - usual) > _UNEVEN * usual)
    if not len(odd):
        return
    gap = odd[0]
    more = f", and {len(odd) - 1} more such places" if len(odd) > 1 else ""
    between = f"between {heights[gap]:.6g} and {heights[gap + 1]:.6g} mm{more}; the usual distance is {usual:.6g} mm"
    lacking = gaps[gap] / usual - 1
    whole = lacking > 0.5 and abs(lacking - round(lacking)) <= _UNEVEN
    what = f"lacks {round(lacking)} {'slice' if round(lacking) == 1 else 'slices'}" if whole else "has an uneven step"
    raise InputError(f"{what} {between}", path, "export the whole series again")


def _values(files: Sequence[_File], order: NDArray[np.intp], geometry: Geometry) -> Pixels:
    array: Pixels = np.concatenate([_pixels(file.path) for file in files])
    if len(geometry.shape) == 2:
        array = array[0]
    sorted_already = (np.diff(order) == 1).all()
    return array if sorted_already else array[order]


def _pixels(path: Path) -> Pixels:
    """(frames, Y, X, ...), rescaled; what fits in 16 bits has 16, as GDCM makes 32 or 64 of it."""
    with _decoding(path) as reader:
        array: NDArray[Any] = sitk.GetArrayFromImage(reader.Execute())
    if array.dtype == np.float64:
        return array.astype(np.float32)
    bounds = np.iinfo(np.int16)
    small = array.dtype == np.int32 and bounds.min <= array.min() and array.max() <= bounds.max
    return array.astype(np.int16) if small else array

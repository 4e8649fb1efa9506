"""Every kind of file in, masks out on exactly the grid of their image, and a sentence for every bad file."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path
from typing import Any

import imagecodecs
import nibabel as nib
import numpy as np
import PIL.Image
import pytest
import tifffile
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import NDArray

from napari_tlseg.data.formats import (
    IMAGE_SUFFIXES,
    case_name,
    count_pages,
    read_geometry,
    read_image,
    read_labels,
    write_labels,
)
from napari_tlseg.data.geometry import Geometry
from napari_tlseg.errors import InputError

Array = NDArray[Any]
SHARED_DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
ORIENTATIONS = [
    "".join(codes[place] for place in order) for codes in product("RL", "AP", "SI") for order in permutations(range(3))
]
RAS = np.array([[1.5, 0, 0, -7], [0, 2, 0, 11], [0, 0, 4, -100], [0, 0, 0, 1]])
OBLIQUE = np.array([[1.4, -0.3, 0.4, 3], [0.4, 1.9, -0.5, 5], [-0.2, 0.5, 3.9, 7], [0, 0, 0, 1]])

rng = np.random.default_rng(0)
VOLUME = rng.integers(-1000, 1000, (5, 6, 7)).astype(np.int16)  # (i, j, k)
GREY = (np.add.outer(np.arange(40), np.arange(50)) * 2).astype(np.uint8)
RGB = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)
STACK = rng.integers(0, 255, (5, 40, 50), dtype=np.uint8)
OME = {"axes": "ZYX", "PhysicalSizeX": 2, "PhysicalSizeY": 3, "PhysicalSizeYUnit": "mm"}
DEEP = (30, 2.5, 5)
FLAT = Geometry(shape=(40, 50), spacing=(1.0, 1.0))


def _labels(shape: tuple[int, ...], classes: int = 2) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, classes, shape, dtype=np.uint8)


def _nifti(path: Path, array: Array, affine: Array | None = RAS, **header: Any) -> Path:
    """An (i, j, k) array as NIfTI; fields of the header are set afterwards, so that nibabel does not tidy them."""
    made = nib.Nifti1Image(array, affine)
    made.header.set_xyzt_units("mm")
    nib.save(made, path)
    return _patched(path, **header)


def _patched(path: Path, **fields: Any) -> Path:
    with nib.openers.Opener(path) as stream:
        raw = stream.read()
    header = nib.Nifti1Header(raw[:348], check=False)
    for name, value in fields.items():
        header[name] = value
    with nib.openers.Opener(path, "wb") as stream:
        stream.write(header.binaryblock + raw[348:])
    return path


def _header(path: Path) -> Any:
    with nib.openers.Opener(path) as stream:
        return nib.Nifti1Header(stream.read(348), check=False)


def _save(path: Path, array: Array, mode: str | None = None, **options: Any) -> Path:
    image = PIL.Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def _tiff(path: Path, array: Array, **options: Any) -> Path:
    tifffile.imwrite(path, array, **({"photometric": "minisblack"} | options))
    return path


def _refused(path: Path, call: Callable[[], object]) -> str:
    """The sentence a user sees: one line that names the file, a reason and a remedy."""
    with pytest.raises(InputError) as caught:
        call()
    assert caught.value.path == path
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    return caught.value.reason


# Pictures


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "b.c.tif", "x.nii.gz", "X.NII.GZ", "y.nii", "z.jpeg", "folder"])
def test_a_case_is_called_as_its_file_without_the_ending(name: str) -> None:
    assert case_name(Path("images") / name) == {"b.c.tif": "b.c"}.get(name, name.split(".")[0])


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("L", GREY), ("RGB", RGB), ("RGBA", RGB), ("LA", GREY), ("1", GREY // 128 * 255), ("P", None)],
)
def test_png_of_every_kind(tmp_path: Path, mode: str, expected: Array | None) -> None:
    colours = RGB // 128 * 255
    image = PIL.Image.fromarray(GREY if mode in ("L", "LA", "1") else colours if mode == "P" else RGB)
    if mode == "1":
        image = image.point(lambda value: value // 128 * 255)
    path = tmp_path / "a.png"
    (image.quantize(8) if mode == "P" else image.convert(mode)).save(path)
    read = read_image(path)
    np.testing.assert_array_equal(read.array, colours if expected is None else expected)
    assert read.array.dtype == np.uint8
    assert read.array.flags.writeable
    assert read.array.flags.c_contiguous
    assert read.geometry.shape == (40, 50) == read_geometry(path).shape
    assert read.geometry.unit == "px"
    assert read.planes.shape == (1, 40, 50, 1 if read.array.ndim == 2 else 3)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_of_16_bit(tmp_path: Path, channels: int) -> None:
    array = rng.integers(0, 65535, (40, 50, channels), dtype=np.uint16)
    path = tmp_path / "a.png"
    path.write_bytes(imagecodecs.png_encode(array[..., 0] if channels == 1 else array))
    expected = array[..., 0] if channels < 3 else array[..., :3]
    read = read_image(path).array
    np.testing.assert_array_equal(read, expected)
    assert read.dtype == np.uint16


def test_a_transparent_palette_is_colour_without_a_word(tmp_path: Path) -> None:
    palette = PIL.Image.fromarray(RGB // 128 * 255).quantize(8)
    palette.save(tmp_path / "a.png", transparency=bytes(range(8)))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").array, RGB // 128 * 255)


@pytest.mark.parametrize(("mode", "shape"), [("L", (40, 50)), ("RGB", (40, 50, 3)), ("CMYK", (40, 50, 3))])
def test_jpeg_of_every_kind(tmp_path: Path, mode: str, shape: tuple[int, ...]) -> None:
    path = _save(tmp_path / "a.jpg", RGB, mode, quality=95)
    assert read_image(path).array.shape == shape
    assert read_geometry(path).shape == (40, 50)


def test_jpeg_is_never_turned(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    upright, turned = _save(tmp_path / "a.jpg", RGB), _save(tmp_path / "b.jpg", RGB, exif=exif)
    np.testing.assert_array_equal(read_image(turned).array, read_image(upright).array)


def test_a_name_may_lie_about_png_and_jpeg(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.jpg", GREY, format="PNG")
    np.testing.assert_array_equal(read_image(path).array, GREY)


def test_a_large_photograph_is_no_attack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _save(tmp_path / "a.png", GREY)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(PIL.Image.DecompressionBombError):
        PIL.Image.open(path)
    assert read_image(path).array.shape == (40, 50)


# TIFF


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits", "zstd"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2", "int16", "float32", "float64"])
def test_tiff_of_every_type(tmp_path: Path, dtype: str, compression: str | None) -> None:
    array = GREY.astype(dtype)
    order = ">" if dtype.startswith(">") else "<"
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, byteorder=order) as tif:
        tif.write(array, compression=compression, photometric="minisblack")
    read = read_image(path).array
    np.testing.assert_array_equal(read, GREY)
    assert read.dtype == array.dtype.newbyteorder("=")
    assert read.dtype.isnative


def test_tiff_of_1_bit(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.tif", GREY > 60)
    np.testing.assert_array_equal(read_image(path).array, np.where(GREY > 60, 255, 0))


@pytest.mark.parametrize(
    ("array", "options", "expected"),
    [
        (RGB, {"photometric": "rgb"}, RGB),
        (np.moveaxis(RGB, -1, 0), {"photometric": "rgb", "planarconfig": "separate"}, RGB),
        (np.dstack([RGB, GREY]), {"photometric": "rgb", "extrasamples": ["unassalpha"]}, RGB),
        (RGB, {"planarconfig": "contig"}, RGB),
        (np.dstack([GREY, GREY]), {"planarconfig": "contig", "extrasamples": ["unassalpha"]}, GREY),
        (np.dstack([RGB, RGB]), {"planarconfig": "contig"}, np.dstack([RGB, RGB])),
        (STACK, {}, STACK),
        (STACK, {"metadata": None}, STACK),
        (STACK, {"imagej": True, "metadata": {"axes": "ZYX"}}, STACK),
        (STACK, {"imagej": True}, STACK),  # which calls the five pages channels
        (STACK, {"imagej": True, "metadata": {"axes": "TYX"}}, STACK),
        (STACK, {"ome": True, "metadata": {"axes": "ZYX"}}, STACK),
        (STACK[:3], {"imagej": True, "metadata": {"axes": "CYX"}}, np.moveaxis(STACK[:3], 0, -1)),
        (STACK[:3], {}, STACK[:3]),
        (STACK[:1], {"metadata": {"axes": "ZYX"}}, STACK[0]),
        (STACK[:, None], {}, STACK),
        (STACK[:, :1], {}, STACK[:, :1]),
        (np.stack([RGB, RGB // 2]), {"photometric": "rgb"}, np.stack([RGB, RGB // 2])),
    ],
)
def test_tiff_of_every_layout(tmp_path: Path, array: Array, options: dict[str, Any], expected: Array) -> None:
    path = _tiff(tmp_path / "a.tif", array, **options)
    read = read_image(path)
    np.testing.assert_array_equal(read.array, expected)
    assert read.array.shape[: len(read.geometry.shape)] == read.geometry.shape == read_geometry(path).shape
    assert read.array.flags.c_contiguous


def test_a_palette_tiff_is_colour_and_as_a_mask_its_indices(tmp_path: Path) -> None:
    colours = np.zeros((3, 256), np.uint16)
    colours[:, 1], colours[:, 2] = (65535, 0, 257), (0, 65535, 0)
    indices = _labels((40, 50), 3)
    path = _tiff(tmp_path / "a.tif", indices, photometric="palette", colormap=colours)
    np.testing.assert_array_equal(read_image(path).array, (colours.T >> 8)[indices])
    np.testing.assert_array_equal(read_labels(path, FLAT, 3), indices)


def test_pages_one_by_one(tmp_path: Path) -> None:
    path = _tiff(tmp_path / "a.tif", STACK, compression="zlib")
    assert count_pages(path) == 5
    for page in range(5):
        np.testing.assert_array_equal(read_image(path, page).array, STACK[page])
        assert read_geometry(path, page).shape == (40, 50)
    assert "has 5 pages" in _refused(path, lambda: read_image(path, 5))
    assert "page -1" in _refused(path, lambda: read_image(path, -1))


def test_pages_of_different_sizes(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(GREY)
        tif.write(GREY[:20])
    assert count_pages(path) == 2
    assert read_image(path, 1).array.shape == (20, 50)
    assert "2 separate images" in _refused(path, lambda: read_geometry(path))


def test_a_thumbnail_is_not_an_image(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(GREY)
        tif.write(GREY[:17, :13], subfiletype=1)  # no level of a pyramid
    np.testing.assert_array_equal(read_image(path).array, GREY)


def test_other_formats_have_one_page(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", GREY)
    assert count_pages(path) == 1
    assert read_image(path, 0).array.shape == (40, 50)
    assert "no page 1" in _refused(path, lambda: read_image(path, 1))


@pytest.mark.parametrize(
    ("array", "options", "spacing"),
    [
        (GREY, {"resolution": (20, 40), "resolutionunit": "CENTIMETER"}, (0.25, 0.5)),
        (GREY, {"resolution": (300, 300), "resolutionunit": "INCH"}, None),
        (GREY, {"resolution": (2, 4), "imagej": True, "metadata": {"unit": "mm"}}, (0.25, 0.5)),
        (GREY, {"resolution": (2, 4), "imagej": True, "metadata": {"unit": "micron"}}, (0.25e-3, 0.5e-3)),
        (GREY, {"resolution": (2, 4), "imagej": True, "metadata": {"unit": "\\u00B5m"}}, (0.25e-3, 0.5e-3)),
        (GREY, {"resolution": (2, 4), "imagej": True, "metadata": {"unit": "pixel"}}, None),
        (STACK, {"resolution": (2, 4), "imagej": True, "metadata": {"axes": "ZYX", "unit": "cm", "spacing": 3}}, DEEP),
        (STACK, {"resolution": (20, 40), "resolutionunit": "CENTIMETER"}, None),
        (STACK, {"ome": True, "metadata": OME | {"PhysicalSizeZ": 4}}, (4e-3, 3, 2e-3)),
        (STACK, {"ome": True, "metadata": OME}, None),
        (GREY, {}, None),
    ],
)
def test_tiff_spacing(tmp_path: Path, array: Array, options: dict[str, Any], spacing: tuple[float, ...] | None) -> None:
    geometry = read_geometry(_tiff(tmp_path / "a.tif", array, **options))
    assert geometry.unit == ("mm" if spacing else "px")
    assert geometry.spacing == pytest.approx(spacing or (1,) * array.ndim)


# NIfTI


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", ">i2", "uint16", "int32", "float32", ">f4", "float64"])
def test_nifti_of_every_type(tmp_path: Path, dtype: str, suffix: str) -> None:
    endian = ">" if dtype.startswith(">") else "<"
    array = np.abs(VOLUME // 8).astype(dtype)
    made = nib.Nifti1Image(array, RAS, nib.Nifti1Header(endianness=endian), dtype=array.dtype)
    path = tmp_path / f"a{suffix}"
    nib.save(made, path)
    read = read_image(path)
    np.testing.assert_array_equal(read.array, array.T)
    assert read.array.dtype == array.dtype.newbyteorder("=")
    assert read.array.flags.c_contiguous
    assert read.array.flags.writeable
    assert read.geometry.shape == (7, 6, 5)
    assert read.geometry.spacing == pytest.approx((4, 2, 1.5))
    assert read.geometry.unit == "mm"
    np.testing.assert_array_equal(read.geometry.affine, RAS)


@pytest.mark.parametrize(("slope", "inter"), [(1, 0), (0, 0), (np.nan, np.nan), (0, 7)])
def test_nifti_that_is_not_scaled_stays_integer(tmp_path: Path, slope: float, inter: float) -> None:
    path = _nifti(tmp_path / "a.nii.gz", VOLUME, scl_slope=slope, scl_inter=inter)
    read = read_image(path).array
    np.testing.assert_array_equal(read, VOLUME.T)
    assert read.dtype == np.int16


@pytest.mark.parametrize(("slope", "inter"), [(0.5, -3), (1, -1024), (2, 0)])
def test_nifti_that_is_scaled(tmp_path: Path, slope: float, inter: float) -> None:
    path = _nifti(tmp_path / "a.nii", VOLUME, scl_slope=slope, scl_inter=inter)
    read = read_image(path).array
    np.testing.assert_allclose(read, VOLUME.T * slope + inter)
    assert read.dtype == np.float32


@pytest.mark.parametrize(
    ("shape", "held"),
    [((5, 6), (6, 5)), ((5, 6, 1), (1, 6, 5)), ((5, 6, 7, 1), (7, 6, 5)), ((5, 1, 7, 1, 1), (7, 1, 5))],
)
def test_nifti_of_other_dimensions(tmp_path: Path, shape: tuple[int, ...], held: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    path = _nifti(tmp_path / "a.nii.gz", array)
    read = read_image(path)
    assert read.array.shape == held == read.geometry.shape == read_geometry(path).shape
    np.testing.assert_array_equal(read.array, array.reshape(held[::-1]).T)
    labels = _labels(held)
    write_labels(tmp_path / "m.nii.gz", labels, path, read.geometry, 2)
    assert nib.load(tmp_path / "m.nii.gz").shape == shape
    np.testing.assert_array_equal(read_labels(tmp_path / "m.nii.gz", read.geometry, 2), labels)


@pytest.mark.parametrize(("code", "mm"), [(0, 1.0), (1, 1e3), (2, 1.0), (3, 1e-3), (10, 1.0)])
def test_nifti_units(tmp_path: Path, code: int, mm: float) -> None:
    geometry = read_geometry(_nifti(tmp_path / "a.nii", VOLUME, xyzt_units=code))
    assert geometry.spacing == pytest.approx((4 * mm, 2 * mm, 1.5 * mm))
    np.testing.assert_allclose(geometry.affine, np.diag([mm, mm, mm, 1]) @ RAS)


def test_nifti_that_says_nothing_of_orientation(tmp_path: Path) -> None:
    path = _nifti(tmp_path / "a.nii", VOLUME, sform_code=0, qform_code=0)
    read = read_image(path)
    assert read.geometry.affine is None
    np.testing.assert_array_equal(read.planes[..., 0], VOLUME.T)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.png", "a.tif"])
def test_geometry_decodes_no_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = tmp_path / name
    _nifti(path, VOLUME) if name.endswith("gz") else _save(path, GREY)

    def decode(*_: object, **__: object) -> None:
        raise AssertionError("pixels were decoded")

    for owner, method in (
        (nib.arrayproxy.ArrayProxy, "get_unscaled"),
        (PIL.Image.Image, "tobytes"),
        (tifffile.TiffPage, "asarray"),
    ):
        monkeypatch.setattr(owner, method, decode)
    assert read_geometry(path).shape == ((7, 6, 5) if name.endswith("gz") else (40, 50))


# Orientation


def _oriented(path: Path, codes: str, affine: Array, number: int) -> Path:
    """The phantom as a file in this orientation would hold it, with the form codes varied."""
    canonical = nib.Nifti1Image(VOLUME, affine)
    made = canonical.as_reoriented(ornt_transform(io_orientation(affine), axcodes2ornt(codes)))
    sform, qform = ((1, 1), (2, 0), (0, 3), (4, 1))[number % 4]
    turned = made.affine.copy()
    made.set_sform(turned, sform)
    made.set_qform(turned, qform)
    made.header.set_xyzt_units("mm", "sec")
    made.header["descrip"], made.header["cal_max"], made.header["intent_name"] = b"phantom", 400, b"CT"
    nib.save(made, path)
    return path


@pytest.mark.parametrize("tilted", [False, True], ids=["straight", "oblique"])
@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_any_orientation_in_and_the_same_out(tmp_path: Path, codes: str, tilted: bool) -> None:
    rotation, _ = np.linalg.qr(OBLIQUE[:3, :3])
    affine = RAS.copy()
    if tilted:
        affine[:3, :3] = rotation * np.sign(np.diag(rotation)) * (1.5, 2, 4)
    source = _oriented(tmp_path / "ct.nii.gz", codes, affine, ORIENTATIONS.index(codes))
    image = read_image(source)
    np.testing.assert_array_equal(image.planes[..., 0], VOLUME[::-1, ::-1].T)
    assert image.geometry.plane_spacing == pytest.approx((4, 2, 1.5))

    labels = image.geometry.from_planes((image.planes[..., 0] > 300).astype(np.uint8))
    mask = tmp_path / "masks" / "ct.nii.gz"
    write_labels(mask, labels, source, image.geometry, 2)
    np.testing.assert_array_equal(read_labels(mask, image.geometry, 2), labels)

    before, after = nib.load(source), nib.load(mask)
    assert after.shape == before.shape
    assert after.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(after.affine, before.affine)
    assert after.header.get_zooms() == before.header.get_zooms()
    for form in ("get_sform", "get_qform"):
        (there, code), (here, same) = (getattr(one, form)(coded=True) for one in (before, after))
        assert code == same
        assert (there is None and here is None) or (there == here).all()
    canonical = nib.as_closest_canonical(after)
    np.testing.assert_array_equal(np.asarray(canonical.dataobj), VOLUME > 300)
    np.testing.assert_allclose(canonical.affine, affine, atol=1e-4)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_every_field_of_the_header_that_is_not_about_intensity_is_kept(
    tmp_path: Path, kind: Any, endian: str, suffix: str
) -> None:
    header = kind.header_class(endianness=endian)
    header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"of the scanner"))
    made = kind(VOLUME, OBLIQUE, header)
    made.header.set_xyzt_units("micron", "msec")
    made.header.set_dim_info(0, 1, 2)
    made.header["toffset"], made.header["slice_duration"] = 1.5, 0.25
    made.header["scl_slope"], made.header["scl_inter"] = 2, -1024
    made.header["cal_max"], made.header["cal_min"], made.header["descrip"] = 5, -5, b"scan"
    made.header.set_intent("t test", (3,), "t")
    source = tmp_path / f"a{suffix}"
    nib.save(made, source)
    geometry = read_geometry(source)
    write_labels(tmp_path / "m.nii.gz", _labels((7, 6, 5), 4), source, geometry, 4)
    before, after = nib.load(source), nib.load(tmp_path / "m.nii.gz")
    assert type(after) is kind
    reset = {"vox_offset", "datatype", "bitpix", "scl_slope", "scl_inter", "cal_min", "cal_max"}
    reset |= {"intent_code", "intent_name", "intent_p1", "intent_p2", "intent_p3", "aux_file"}
    for field in set(before.header.keys()) - reset:
        assert before.header[field].tobytes() == after.header[field].tobytes(), field
    assert (after.dataobj.slope, after.dataobj.inter) == (1, 0)
    assert after.header.get_intent() == ("none", (), "")
    assert after.header["cal_max"] == after.header["cal_min"] == 0
    np.testing.assert_array_equal(np.asarray(after.dataobj).T, _labels((7, 6, 5), 4))


def test_what_nibabel_would_mend_is_left_alone(tmp_path: Path) -> None:
    source = _nifti(tmp_path / "a.nii", VOLUME, pixdim=[0, 1.5, 2, 4, 0, 0, 0, 0])
    write_labels(tmp_path / "m.nii", _labels((7, 6, 5)), source, read_geometry(source), 2)
    assert _header(tmp_path / "m.nii")["pixdim"].tolist() == [0, 1.5, 2, 4, 0, 0, 0, 0]


# Masks out and in again


SOURCES: dict[str, Callable[[Path], Path]] = {
    "png": lambda folder: _save(folder / "a.png", RGB),
    "jpeg": lambda folder: _save(folder / "a.jpg", RGB),
    "tiff": lambda folder: _tiff(folder / "a.tif", GREY, resolution=(300, 300), resolutionunit="INCH"),
    "tiff in mm": lambda folder: _tiff(folder / "a.tif", GREY, resolution=(20, 40), resolutionunit="CENTIMETER"),
    "tiff volume": lambda folder: _tiff(
        folder / "a.tif", STACK, imagej=True, resolution=(2, 4), metadata={"axes": "ZYX", "unit": "mm", "spacing": 3}
    ),
    "tiff stack": lambda folder: _tiff(folder / "a.tif", STACK),
    "nifti": lambda folder: _nifti(folder / "a.nii.gz", VOLUME, OBLIQUE),
    "nifti image": lambda folder: _nifti(folder / "a.nii.gz", VOLUME[..., 0]),
    "nifti plane": lambda folder: _nifti(folder / "a.nii.gz", VOLUME[..., :1]),
    "nifti frame": lambda folder: _nifti(folder / "a.nii.gz", VOLUME[..., None]),
}


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".nii", ".nii.gz"])
@pytest.mark.parametrize("source", SOURCES)
def test_labels_come_back_as_they_were_written(tmp_path: Path, source: str, suffix: str, classes: int) -> None:
    image = SOURCES[source](tmp_path)
    geometry = read_geometry(image)
    labels, mask = _labels(geometry.shape, classes), tmp_path / f"mask{suffix}"
    if suffix == ".png" and len(geometry.shape) == 3 and geometry.shape[0] > 1:
        reason = _refused(mask, lambda: write_labels(mask, labels, image, geometry, classes))
        assert "cannot hold a volume" in reason
        return
    write_labels(mask, labels, image, geometry, classes)
    read = read_labels(mask, geometry, classes)
    np.testing.assert_array_equal(read, labels)
    assert read.dtype == np.uint8
    written = read_geometry(mask)
    if geometry.unit == "mm" and suffix != ".png":
        assert written.unit == "mm"
        count = min(len(written.spacing), len(geometry.spacing))
        assert written.spacing[-count:] == pytest.approx(geometry.spacing[-count:])
    if suffix.startswith(".nii") and source.startswith(("tiff", "png")):
        assert written.affine is not None
        signs = (-1, -1, 1)[: len(geometry.shape)]  # to the left, to posterior, to superior
        np.testing.assert_allclose(np.diag(written.affine)[: len(signs)], np.multiply(signs, geometry.spacing[::-1]))
    empty = np.zeros_like(labels)
    write_labels(mask, empty, image, geometry, classes)
    assert not read_labels(mask, geometry, classes).any()


def test_a_tiff_mask_keeps_the_words_of_its_source(tmp_path: Path) -> None:
    source = SOURCES["tiff"](tmp_path)
    write_labels(tmp_path / "m.tif", _labels((40, 50)), source, read_geometry(source), 2)
    with tifffile.TiffFile(tmp_path / "m.tif") as tif:
        assert tif.pages.first.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        assert tif.pages.first.resolution == (300, 300)
        assert tif.pages.first.resolutionunit == tifffile.RESUNIT.INCH


@pytest.mark.parametrize(("resolution", "unit"), [((20, 40), "CENTIMETER"), ((300, 300), "INCH")])
def test_the_mask_of_a_volume_of_unknown_depth_keeps_them_too(
    tmp_path: Path, resolution: tuple[int, int], unit: str
) -> None:
    source = _tiff(tmp_path / "a.tif", STACK, resolution=resolution, resolutionunit=unit)
    geometry = read_geometry(source)
    write_labels(tmp_path / "m.tif", _labels(geometry.shape), source, geometry, 2)
    with tifffile.TiffFile(tmp_path / "m.tif") as tif:
        assert tif.pages.first.resolution == resolution
        assert tif.pages.first.resolutionunit == tifffile.RESUNIT[unit]
    assert read_geometry(tmp_path / "m.tif").unit == "px"
    np.testing.assert_array_equal(read_labels(tmp_path / "m.tif", geometry, 2), _labels(geometry.shape))


def test_a_png_mask_of_two_classes_can_be_seen(tmp_path: Path) -> None:
    labels = _labels((40, 50))
    write_labels(tmp_path / "m.png", labels, tmp_path / "a.png", FLAT, 2)
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(tmp_path / "m.png")), labels * 255)
    write_labels(tmp_path / "m.png", labels, tmp_path / "a.png", FLAT, 3)
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(tmp_path / "m.png")), labels)


def test_no_mask_is_written_as_jpeg(tmp_path: Path) -> None:
    mask = tmp_path / "m.jpg"
    _refused(mask, lambda: write_labels(mask, _labels((40, 50)), tmp_path / "a.png", FLAT, 2))
    assert not mask.exists()


def test_labels_that_do_not_fit_are_a_mistake_of_the_program(tmp_path: Path) -> None:
    for labels in (_labels((40, 51)), _labels((40, 50), 3)):
        with pytest.raises(ValueError, match="labels"):
            write_labels(tmp_path / "m.png", labels, tmp_path / "a.png", FLAT, 2)


def test_a_source_that_changed_is_refused(tmp_path: Path) -> None:
    source = _nifti(tmp_path / "a.nii", VOLUME)
    geometry = read_geometry(source)
    _nifti(source, VOLUME[1:])
    reason = _refused(source, lambda: write_labels(tmp_path / "m.nii", _labels((7, 6, 5)), source, geometry, 2))
    assert "no longer" in reason
    assert not (tmp_path / "m.nii").exists()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32", "bool"])
def test_a_mask_of_0_and_255_is_read_as_0_and_1(tmp_path: Path, dtype: str) -> None:
    labels = _labels((40, 50))
    path = _tiff(tmp_path / "m.tif", (labels * 255).astype(dtype))
    for classes in (2, 3):
        np.testing.assert_array_equal(read_labels(path, FLAT, classes), labels)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "1", "P"])
def test_png_masks_of_every_kind(tmp_path: Path, mode: str) -> None:
    labels = _labels((40, 50))
    image = PIL.Image.fromarray(labels * np.uint8(255)).convert("L" if mode == "P" else mode)
    if mode == "P":
        image = PIL.Image.fromarray(labels)
        image.putpalette([10, 20, 30, 200, 0, 0])
    image.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "m.png", FLAT, 2), labels)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_mask_of_two_classes_is_thresholded(tmp_path: Path, mode: str) -> None:
    labels = np.zeros((40, 50), np.uint8)
    labels[9:21, 15:33] = 1
    path = _save(tmp_path / "m.jpg", labels * np.uint8(255), mode, quality=60)
    assert len(np.unique(PIL.Image.open(path).convert("L"))) > 2
    np.testing.assert_array_equal(read_labels(path, FLAT, 2), labels)
    assert "3 classes" in _refused(path, lambda: read_labels(path, FLAT, 3))


def test_a_jpeg_of_class_numbers_is_not_cut_to_nothing(tmp_path: Path) -> None:
    path = _save(tmp_path / "m.jpg", _labels((40, 50)) * np.uint8(20), "L", quality=95)
    assert "there are 2 classes" in _refused(path, lambda: read_labels(path, FLAT, 2))


def test_the_mask_of_one_page(tmp_path: Path) -> None:
    labels = _labels((5, 40, 50))
    path = _tiff(tmp_path / "m.tif", labels)
    np.testing.assert_array_equal(read_labels(path, FLAT, 2, page=3), labels[3])


def test_a_scaled_mask(tmp_path: Path) -> None:
    labels = _labels((7, 6, 5), 4)
    path = _nifti(tmp_path / "m.nii", labels.T * np.uint8(10), scl_slope=0.1, scl_inter=0)
    np.testing.assert_array_equal(read_labels(path, read_geometry(path), 4), labels)


def test_a_mask_without_affine_is_taken_at_its_shape(tmp_path: Path) -> None:
    image = read_geometry(_nifti(tmp_path / "a.nii", VOLUME))
    bare = _nifti(tmp_path / "m.nii", _labels((5, 6, 7)), sform_code=0, qform_code=0)
    np.testing.assert_array_equal(read_labels(bare, image, 2), _labels((5, 6, 7)).T)


# Masks that are refused


@pytest.mark.parametrize(
    ("values", "classes", "said"),
    [
        (np.where(GREY > 60, 7, 0), 3, "the value 7, but there are 3 classes"),
        (np.where(GREY > 60, 255, 1), 2, "the value 255, but there are 2 classes"),
        (np.where(GREY > 60, -1, 0), 2, "the value -1"),
        (np.where(GREY > 60, 0.5, 1), 2, "the value 0.5, which is no class number"),
        (np.where(GREY > 60, np.nan, 1), 2, "not finite"),
        (np.where(GREY > 60, 65535, 1), 2, "the value 65535"),
    ],
)
def test_values_that_are_no_classes(tmp_path: Path, values: Array, classes: int, said: str) -> None:
    path = _tiff(tmp_path / "m.tif", values.astype("float32" if values.dtype.kind == "f" else "int32"))
    assert said in _refused(path, lambda: read_labels(path, FLAT, classes))


def test_a_mask_in_colour_is_refused(tmp_path: Path) -> None:
    path = _save(tmp_path / "m.png", RGB)
    assert "colour" in _refused(path, lambda: read_labels(path, FLAT, 2))


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    path = _save(tmp_path / "m.png", _labels((40, 51)))
    reason = _refused(path, lambda: read_labels(path, FLAT, 2))
    assert "40 × 51" in reason
    assert "40 × 50" in reason


def test_a_mask_of_another_affine_is_refused(tmp_path: Path) -> None:
    image = read_geometry(_nifti(tmp_path / "a.nii", VOLUME))
    moved = RAS.copy()
    moved[0, 3] += 0.01
    mask = _nifti(tmp_path / "m.nii", _labels((5, 6, 7)), moved)
    reason = _refused(mask, lambda: read_labels(mask, image, 2))
    assert "1.5 0 0 -6.99" in reason
    assert "1.5 0 0 -7;" in reason
    moved[0, 3] -= 0.0099
    np.testing.assert_array_equal(read_labels(_nifti(mask, _labels((5, 6, 7)), moved), image, 2), _labels((5, 6, 7)).T)


# Files that are no good


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_a_missing_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    assert "does not exist" in _refused(path, lambda: read_geometry(path))
    path.mkdir()
    assert "is a folder" in _refused(path, lambda: read_image(path))


@pytest.mark.parametrize(
    "content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"\x1f\x8b\x08"]
)
@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_a_file_that_is_something_else(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    _refused(path, lambda: read_geometry(path))
    _refused(path, lambda: read_image(path))


def test_an_unknown_ending(tmp_path: Path) -> None:
    path = tmp_path / "a.bmp"
    _save(path, GREY)
    for call in (count_pages, read_geometry, read_image):
        assert "kind" in _refused(path, lambda call=call: call(path))
    _refused(path, lambda: write_labels(path, _labels((40, 50)), path, FLAT, 2))


WRITERS: dict[str, Callable[[Path], object]] = {
    "grey.png": lambda path: _save(path, STACK[0]),
    "palette.png": lambda path: PIL.Image.fromarray(RGB).quantize(64).save(path),
    "deep.png": lambda path: path.write_bytes(imagecodecs.png_encode(RGB.astype(np.uint16) * 200)),
    "grey.jpg": lambda path: _save(path, GREY),
    "progressive.jpeg": lambda path: _save(path, RGB, progressive=True),
    "raw.tif": lambda path: _tiff(path, RGB, photometric="rgb"),
    "strips.tif": lambda path: _tiff(path, RGB, photometric="rgb", compression="zlib", rowsperstrip=8),
    "jpeg.tif": lambda path: _tiff(path, STACK, compression="jpeg", metadata=None),
    "stack.tif": lambda path: _tiff(path, STACK, metadata=None),
    "shaped.tif": lambda path: _tiff(path, STACK, compression="lzw"),
    "imagej.tif": lambda path: _tiff(path, STACK, imagej=True, metadata={"axes": "ZYX"}),
    "ome.tiff": lambda path: _tiff(path, STACK, ome=True, compression="zlib"),
    "a.nii": lambda path: _nifti(path, VOLUME),
    "a.nii.gz": lambda path: _nifti(path, VOLUME),
}


@pytest.mark.parametrize("kept", [0.05, 0.3, 0.6, 0.9, 0.97])
@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_was_cut_off(tmp_path: Path, name: str, kept: float, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    image, whole = read_image(path).array, path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    if (name, kept) == ("imagej.tif", 0.97):  # of whose pixels nothing is lost
        np.testing.assert_array_equal(read_image(path).array, image)
    else:
        assert "cannot be read" in _refused(path, lambda: read_image(path))
    assert not caplog.records


def test_a_decoder_keeps_its_own_words(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", GREY)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError) as caught:
        read_image(path)
    assert isinstance(caught.value.__cause__, OSError | SyntaxError)
    assert str(caught.value.__cause__) in str(caught.value)


def test_libraries_may_log_again_afterwards(tmp_path: Path) -> None:
    read_image(_tiff(tmp_path / "a.tif", GREY))
    for name in ("tifffile", "nibabel.global"):
        assert not logging.getLogger(name).filters


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["a.nii.gz", "a.tif"])
def test_values_that_are_not_finite(tmp_path: Path, name: str, bad: float) -> None:
    path, array = tmp_path / name, VOLUME.astype(np.float32)
    array[2, 3, 4] = bad
    _nifti(path, array) if name.endswith("gz") else _tiff(path, array)
    assert read_geometry(path).shape
    assert "not finite" in _refused(path, lambda: read_image(path))


def test_more_than_three_dimensions(tmp_path: Path) -> None:
    nifti = _nifti(tmp_path / "a.nii", np.zeros((5, 6, 7, 2), np.int16))
    assert "4 dimensions (5 × 6 × 7 × 2)" in _refused(nifti, lambda: read_geometry(nifti))
    line = _nifti(tmp_path / "b.nii", np.zeros(5, np.int16))
    assert "1 dimensions" in _refused(line, lambda: read_geometry(line))
    tiff = _tiff(tmp_path / "a.tif", np.zeros((2, 3, 40, 50), np.uint8))
    assert "4 dimensions" in _refused(tiff, lambda: read_geometry(tiff))


def test_no_pixels(tmp_path: Path) -> None:
    path = _nifti(tmp_path / "a.nii", np.zeros((0, 6, 7), np.int16))
    assert "no pixels" in _refused(path, lambda: read_geometry(path))


@pytest.mark.parametrize("dtype", [np.complex64, [("R", "u1"), ("G", "u1"), ("B", "u1")]])
def test_voxels_that_are_not_real_numbers(tmp_path: Path, dtype: Any) -> None:
    path = _nifti(tmp_path / "a.nii", np.zeros((5, 6, 7), dtype))
    assert "voxels" in _refused(path, lambda: read_geometry(path))


def test_a_complex_tiff(tmp_path: Path) -> None:
    path = _tiff(tmp_path / "a.tif", GREY.astype(np.complex64))
    assert "complex" in _refused(path, lambda: read_geometry(path))


@pytest.mark.parametrize("row", [(0, 0, 0, 0), (1.5, 0, 0, 0), (np.nan, 0, 0, 0)])
def test_an_affine_that_is_singular(tmp_path: Path, row: tuple[float, ...]) -> None:
    path = _nifti(tmp_path / "a.nii", VOLUME, srow_x=RAS[0], srow_y=row, sform_code=1)
    _refused(path, lambda: read_geometry(path))


# Real images


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the real images are not here")
@pytest.mark.parametrize(
    ("folder", "masks", "classes"),
    [
        ("fundus_drions_db", "masks", 2),
        ("covid_ct_medseg50", "masks", 2),
        ("covid_ct_medseg50", "masks_multiclass", 3),
        ("covid_ct_medseg50", "rois", 2),
        ("lung_ct_chest_subset", "masks", 4),
        ("lung_ct_lungsegdb", "masks", 2),
        ("lung_nifti", "masks", 2),
    ],
)
def test_real_images(tmp_path: Path, folder: str, masks: str, classes: int) -> None:
    image = min((SHARED_DATA / folder / "images").iterdir())
    mask = next(path for path in (SHARED_DATA / folder / masks).iterdir() if case_name(path) == case_name(image))
    geometry = read_image(image).geometry
    labels = read_labels(mask, geometry, classes)
    assert 0 < labels.mean() < classes - 1
    write_labels(tmp_path / mask.name, labels, image, geometry, classes)
    np.testing.assert_array_equal(read_labels(tmp_path / mask.name, geometry, classes), labels)

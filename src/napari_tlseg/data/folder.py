"""The dataset folder: images, and beside them masks, clicks, patients and what else is known."""

from __future__ import annotations

import hashlib
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from napari_tlseg.data.case import Case, Dataset
from napari_tlseg.data.formats import IMAGE_SUFFIXES, case_name, count_pages, read_geometry, read_labels
from napari_tlseg.data.formats.dicom import dicom_files, holds_dicom
from napari_tlseg.data.formats.masks import check_grid
from napari_tlseg.data.images import join, look_like_channels, together
from napari_tlseg.data.labels import read_tags
from napari_tlseg.data.tables import nfc, read_clicks, read_painted, read_patients, write_clicks
from napari_tlseg.errors import InputError
from napari_tlseg.options import Unreadable

__all__ = ["fingerprint", "read_dataset", "write_clicks"]

MAX_CLASSES = 32
"""More values than this in a mask are grey levels, not classes."""


def read_dataset(folder: Path, masks: str = "masks", unreadable: Unreadable = "refuse") -> Dataset:
    """The cases of a dataset folder; only headers and tables are read, pixels when asked for.

    An image file that cannot be opened is an InputError, or with `skip` no case, and `left_out` names it.
    `masks` names the folder of the masks. The classes of another one than `masks` are those of its own table in
    dataset.toml, else those of the dataset where they are enough for the values found, else they are numbered.
    """
    if not folder.is_dir():
        raise InputError("there is no such folder", folder, "name a folder of images, or one that holds images/")
    settings = _read_settings(folder)
    cases, left_out = _read_cases(folder, settings, unreadable)
    notes = [*left_out.values(), *_about_channels(cases, settings)]
    if masks != "masks" and not (folder / masks).is_dir():
        raise InputError("there is no such folder", folder / masks, "choose another --masks")
    mask_files = _beside(folder / masks, cases, notes)
    roi_files = _beside(folder / "rois", cases, notes)
    clicks = read_clicks(folder, cases, left_out)
    patients = read_patients(folder, cases, notes, left_out)
    painted = read_painted(folder, cases, left_out)
    labels, tags = read_tags(folder, cases, left_out)
    cases = [
        replace(
            case,
            tags=tags.get(case.name),
            mask=mask_files.get(case.name),
            roi=roi_files.get(case.name),
            click=clicks.get(case.name),
            patient=patients.get(case.name, case.name),
            painted=painted.get(case.name),
        )
        for case in cases
    ]
    _note_unpainted(cases, bool(painted), notes)
    return Dataset(
        folder=folder,
        cases=tuple(cases),
        classes=_choose_classes(cases, masks, settings, notes),
        labels=labels,
        channels=settings.channels,
        modality=settings.modality,
        notes=tuple(notes),
        left_out=left_out,
    )


def fingerprint(case: Case) -> str:
    """SHA-256 of the image file's bytes, of a page with `#page`: to recognise an image that was seen before.

    Of several channels that of the first, so that a case is known whatever else was looked at with it.
    Of a DICOM series that of its files' digests, whatever the files are called.
    """
    if case.image.is_dir():
        return hashlib.sha256("".join(sorted(map(_digest, dicom_files(case.image)))).encode()).hexdigest()
    digest = _digest(case.image)
    return digest if case.page is None else f"{digest}#{case.page}"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """dataset.toml."""

    modality: str | None = None
    classes: tuple[str, ...] | None = None
    pages: bool = False
    """Whether each page of a TIFF is a case."""
    channels: tuple[str, ...] = ()
    """What the numbered files of each case are."""
    other: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Classes of other mask folders, by the folder's name."""


def _read_settings(folder: Path) -> _Settings:
    path = folder / "dataset.toml"
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8-sig")) if path.exists() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"cannot be read ({error})", path, 'expected lines like modality = "fundus"') from None
    other = {key: value for key, value in found.items() if isinstance(value, dict) and (folder / key).is_dir()}
    unknown = found.keys() - other.keys() - {"modality", "classes", "pages", "channels"}
    unknown |= {f"{key}.{inner}" for key, table in other.items() for inner in table.keys() - {"classes"}}
    if unknown:
        known = "expected modality, classes, pages or channels"
        raise InputError(f"does not know {', '.join(sorted(unknown))}", path, known)
    if not isinstance(found.get("modality", ""), str):
        raise InputError("modality is not text", path, 'expected one like "fundus"')
    if found.get("pages", "cases") != "cases":
        raise InputError(f"pages is {found['pages']!r}", path, 'the only choice is "cases": pages that are no volume')
    if {"pages", "channels"} <= found.keys():
        raise InputError("has pages and channels", path, "leave one out: a page of a TIFF is all of its case")
    return _Settings(
        modality=found.get("modality"),
        classes=_names(path, found, "classes", '["background", "disc"]'),
        pages="pages" in found,
        channels=_names(path, found, "channels", '["t1", "flair"]') or (),
        other={key: names for key, table in other.items() if (names := _names(path, table, "classes", '["a", "b"]'))},
    )


def _names(path: Path, table: Mapping[str, Any], key: str, example: str) -> tuple[str, ...] | None:
    """Two or more different names; None where there are none."""
    names = table.get(key)
    if names is None:
        return None
    good = isinstance(names, list) and all(isinstance(name, str) and name for name in names)
    if not good or not 2 <= len(set(names)) == len(names):
        raise InputError(f"{key} is {names!r}", path, f"expected a list of names like {example}")
    return tuple(names)


def _about_channels(cases: Sequence[Case], settings: _Settings) -> Iterator[str]:
    if settings.channels:
        yield f"The channels of a case are {', '.join(settings.channels)}, each with values of its own."
    elif look_like_channels([case.image for case in cases if case.page is None]):
        names = " and ".join(case.image.name for case in cases[:2])
        yield f"{names} are two cases; were they channels of one, dataset.toml would say channels = [...]."


def _read_cases(folder: Path, settings: _Settings, unreadable: Unreadable) -> tuple[list[Case], dict[Path, str]]:
    """The cases, and the files that were skipped → why."""
    images = folder / "images" if (folder / "images").is_dir() else folder
    cases: list[Case] = []
    left_out: dict[Path, str] = {}
    paths = sorted([*_image_files(images), *_series(images)], key=lambda path: nfc(path.name))
    for files in together(paths) if settings.channels else [(path,) for path in paths]:
        try:
            cases.extend([join(files, settings.channels)] if settings.channels else _cases_of(files[0], settings.pages))
        except InputError as error:
            if unreadable == "refuse":
                raise
            left_out[files[0]] = f"Left out: {error}"
    _check_cases(images, cases, left_out)
    return cases, left_out


def _check_cases(images: Path, cases: Sequence[Case], left_out: Mapping[Path, str]) -> None:
    if not cases and left_out:
        raise InputError("none of its images can be read", images, next(iter(left_out.values())))
    if not cases and holds_dicom(images):
        raise InputError("holds DICOM files, not images", images, "put each series in a folder of its own inside")
    if not cases:
        raise InputError("holds no images", images, f"expected files ending in {' '.join(IMAGE_SUFFIXES)}")
    if twice := [name for name, count in Counter(case.name for case in cases).items() if count > 1]:
        files = " and ".join(case.image.name for case in cases if case.name == twice[0])
        raise InputError(f"{files} are both case {twice[0]!r}", images, "rename one of them, and its mask")


def _cases_of(path: Path, pages: bool) -> Iterator[Case]:
    name = nfc(case_name(path))
    if not pages or (count := count_pages(path)) == 1:
        yield Case(name=name, image=path, geometry=read_geometry(path))
    else:
        for page in range(count):
            yield Case(name=f"{name}#{page}", image=path, page=page, geometry=read_geometry(path, page))


def _image_files(folder: Path) -> list[Path]:
    """The images of a folder by name, without hidden files (macOS leaves `._scan.png` beside `scan.png`)."""
    try:
        paths = sorted((path for path in folder.iterdir() if path.name[0] != "."), key=lambda path: nfc(path.name))
        return [path for path in paths if path.name.lower().endswith(IMAGE_SUFFIXES) and path.is_file()]
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", folder, "ask for access to it") from None


def _series(folder: Path) -> list[Path]:
    """The folders of DICOM files; of the others in a plain folder of images, such as masks, nothing is taken."""
    return [path for path in folder.iterdir() if path.name[0] != "." and path.is_dir() and holds_dicom(path)]


def _beside(folder: Path, cases: Iterable[Case], notes: list[str]) -> dict[str, Path]:
    """Case name → its mask or ROI, whose grid is the image's."""
    if not folder.is_dir():
        return {}
    files: dict[str, Path] = {}
    for path in _image_files(folder):
        if other := files.get(nfc(case_name(path))):
            raise InputError(f"{other.name} and {path.name} are of the same case", folder, "keep one of them")
        files[nfc(case_name(path))] = path
    found = {}
    for case in cases:
        if file := files.get(case.name, files.get(nfc(case_name(case.image)))):
            check_grid(file, read_geometry(file, case.page_of(file)), case.geometry)
            found[case.name] = file
    used = set(found.values())
    if strays := [file.name for file in files.values() if file not in used]:
        notes.append(f"{len(strays)} files of {folder.name}/ belong to no image ({strays[0]} …): they are not used.")
    return found


def _note_unpainted(cases: Iterable[Case], listed: bool, notes: list[str]) -> None:
    volumes = [case for case in cases if case.mask and len(case.geometry.shape) == 3 and case.painted is None]
    if listed and volumes:
        notes.append(f"{len(volumes)} volumes with a mask are not in labelled.csv: all their slices count as painted.")


def _choose_classes(cases: Iterable[Case], masks: str, settings: _Settings, notes: list[str]) -> tuple[str, ...]:
    known = settings.classes or ("background", "target")
    if masks in settings.other:
        return settings.other[masks]
    if masks != "masks" and len(known) < (count := _count_classes(cases)):
        notes.append(f"{masks}/ holds {count} classes that dataset.toml does not name: they are numbered.")
        return ("background", *(f"class {number}" for number in range(1, count)))
    if settings.classes is None:
        notes.append("dataset.toml names no classes: they are background and target.")
    return known


def _count_classes(cases: Iterable[Case]) -> int:
    """The largest value in any mask, and 1; a JPEG, which blurs values, can only hold two classes."""
    most = 1
    for case in cases:
        if case.mask is not None and case.mask.suffix.lower() not in (".jpg", ".jpeg"):
            labels = read_labels(case.mask, case.geometry, 256, case.page_of(case.mask))
            most = max(most, int(labels.max(initial=0)))
            if most >= MAX_CLASSES:
                raise InputError(f"holds the value {most}, too many for classes", case.mask, "use a mask of 0, 1, 2 …")
    return most + 1

"""A project folder for images that lie where nothing can be written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_tlseg.data.folder import read_dataset
from napari_tlseg.errors import InputError

TABLES = ("dataset.toml", "clicks.csv", "labelled.csv", "patients.csv", "split.csv")


def adopt_folder(folder: Path, project: Path) -> Path:
    """Make `project` a dataset folder of the images in `folder`: linked to where that is possible, else copied.

    Masks and tables are copied, so that they can be changed. In a project that was made of the folder before only new
    images are added.
    """
    if folder.resolve() == project.resolve():
        raise InputError("cannot be its own project folder", project, "choose another folder")
    dataset = read_dataset(folder, unreadable="skip")
    images = list(dict.fromkeys([*(path for case in dataset for path in case.files), *dataset.left_out]))
    if (project / "images").is_dir():
        if not {path.name for path in (project / "images").iterdir()} <= {path.name for path in images}:
            raise InputError("is a project of other images", project, "choose a new folder for the project")
        _link_all(images, project / "images")
        return project
    with new_project(project):
        for name in TABLES:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, project / name)
        for path in _besides(folder):
            if path.name == "masks":
                _copy_all(path, project / "masks")
            else:
                link(path, project / path.name)
        _link_all(images, project / "images")
    return project


@contextmanager
def new_project(project: Path) -> Iterator[None]:
    """Make the folder where it is not there, and leave it empty if the block raises; what is in one that is not empty
    is nobody's to mix with.
    """
    project.mkdir(parents=True, exist_ok=True)
    if any(path.name[0] != "." for path in project.iterdir()):
        raise InputError("is not empty", project, "choose a new folder for the project")
    before = set(project.iterdir())
    try:
        yield
    except BaseException:
        for path in set(project.iterdir()) - before:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        raise


def link(path: Path, target: Path) -> None:
    """`target` becomes a link to `path`, or a copy where the system makes no links."""
    try:
        os.symlink(path.resolve(), target, target_is_directory=path.is_dir())
    except OSError:
        if path.is_dir():
            _copy_all(path, target)
        else:
            shutil.copyfile(path, target)


def _besides(folder: Path) -> list[Path]:
    """Masks and the like of a dataset folder; a plain folder of images has at most those that are called so."""
    if (folder / "images").is_dir():
        return [path for path in folder.iterdir() if path.is_dir() and path.name not in ("images", "runs", "sources")]
    return [path for name in ("masks", "rois") if (path := folder / name).is_dir()]


def _link_all(images: list[Path], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for path in images:
        if not os.path.lexists(folder / path.name):
            link(path, folder / path.name)


def _copy_all(folder: Path, target: Path) -> None:
    """Without the modes, which may forbid writing."""
    target.mkdir()
    for path in folder.iterdir():
        if path.is_dir():
            _copy_all(path, target / path.name)
        else:
            shutil.copyfile(path, target / path.name)

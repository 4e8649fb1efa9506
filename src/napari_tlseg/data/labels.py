"""Labels of whole images, labels.csv, and what they have to do with each other, ontology.toml."""

from __future__ import annotations

import csv
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_tlseg.data.case import Case
from napari_tlseg.data.tables import Row, nfc, read_rows, rows_with
from napari_tlseg.errors import InputError

KNOWN = {"": math.nan, "0": 0.0, "1": 1.0}
"""Cells of labels.csv: not known, absent, present."""
EXPECTED = 'expected exclusive = [["a", "b"]] or [parents] with lines like child = "parent"'


@dataclass(frozen=True, kw_only=True)
class Ontology:
    """Relations between labels, as in Yan et al., "Holistic and comprehensive annotation" (LesaNet), CVPR 2019."""

    parents: Mapping[str, str] = field(default_factory=dict)
    """Child → parent: what has the child has the parent too."""
    exclusive: tuple[tuple[str, ...], ...] = ()
    """Of the labels in each group an image has one at most."""

    def complete(self, tags: Mapping[str, float]) -> dict[str, float]:
        """The tags (1, 0, NaN for not known), with those that follow from others. ValueError where they contradict."""
        known = dict(tags)
        for child in tags:
            for ancestor in self._ancestors(child) if known[child] == 1 else ():
                _set(known, ancestor, 1.0, f"{child} is a kind of {ancestor}")
        for group in self.exclusive:
            for label in [each for each in group if known.get(each) == 1]:
                for other in set(group) - {label}:
                    _set(known, other, 0.0, f"{label} and {other} exclude each other")
        for child in tags:
            for ancestor in self._ancestors(child):
                if known.get(ancestor) == 0:
                    _set(known, child, 0.0, f"{child} is a kind of {ancestor}")
        return known

    def groups(self, labels: Sequence[str]) -> list[list[int]]:
        """The exclusive groups as places in `labels`; labels that are not there are passed over."""
        found = ([labels.index(label) for label in group if label in labels] for group in self.exclusive)
        return [group for group in found if len(group) > 1]

    def _ancestors(self, label: str) -> list[str]:
        found: list[str] = []
        while (label := self.parents.get(label, "")) and label not in found:
            found.append(label)
        return found


def read_ontology(folder: Path) -> Ontology:
    """From ontology.toml; none where there is no such file."""
    path = folder / "ontology.toml"
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8-sig")) if path.exists() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"cannot be read ({error})", path, EXPECTED) from None
    parents, groups = found.get("parents", {}), found.get("exclusive", [])
    named = isinstance(parents, dict) and all(isinstance(parent, str) for parent in parents.values())
    if found.keys() - {"parents", "exclusive"} or not named or not _are_groups(groups):
        raise InputError("says something else than relations of labels", path, EXPECTED)
    ontology = Ontology(parents=parents, exclusive=tuple(map(tuple, groups)))
    if circular := next((child for child in parents if child in ontology._ancestors(child)), ""):
        raise InputError(f"makes {circular} a kind of itself", path, "delete one of its parents")
    return ontology


def read_tags(
    folder: Path, cases: Iterable[Case], left_out: Iterable[Path] = ()
) -> tuple[tuple[str, ...], dict[str, tuple[float, ...]]]:
    """The names of the labels in labels.csv, and case name → 1, 0 or NaN for each; with what follows from others."""
    path = folder / "labels.csv"
    if not path.exists():
        return (), {}
    header, by_key, ontology = _header(path), {case.key: case for case in cases}, read_ontology(folder)
    names, tags = header[1:], dict[str, tuple[float, ...]]()
    for row, case in rows_with(read_rows(path, header), by_key, left_out):
        if case.name in tags:
            raise row.error(f"{row['image']} appears twice", "keep one line per image")
        if len(case.geometry.shape) == 3:
            raise row.error(f"{row['image']} is a volume, labels are of single images", "paint masks: labels follow")
        try:
            known = ontology.complete({name: _cell(row, name) for name in names})
        except ValueError as error:
            raise row.error(f"{row['image']}: {error}", "correct the line, or ontology.toml") from None
        tags[case.name] = tuple(known[name] for name in names)
    return names, tags


def _header(path: Path) -> tuple[str, ...]:
    """Of which the labels are the file's own."""
    first = path.read_bytes().decode("utf-8-sig", errors="replace").splitlines()[:1]
    header = tuple(nfc(cell.strip()) for cell in next(csv.reader(first), []))
    if len(header) < 2 or header[0] != "image" or "" in header or len(set(header)) < len(header):
        raise InputError(f"its first line reads {','.join(header)!r}", path, "expected image,label,label…")
    return header


def _cell(row: Row, name: str) -> float:
    if row[name] not in KNOWN:
        raise row.error(f"{name} is {row[name]!r}", "expected 1 (there), 0 (not there) or nothing (not known)")
    return KNOWN[row[name]]


def _set(known: dict[str, float], label: str, value: float, why: str) -> None:
    """ValueError where the label is known to be otherwise; one that is not asked for is passed over."""
    if label not in known:
        return
    if known[label] == 1 - value:
        raise ValueError(f"{why}, yet {label} is {known[label]:g}")
    known[label] = value


def _are_groups(groups: Any) -> bool:
    return isinstance(groups, list) and all(
        isinstance(group, list) and len(group) > 1 and all(isinstance(label, str) for label in group)
        for group in groups
    )

"""Which cases get a mask, and in which format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from qtpy.QtCore import Qt

from napari_tlseg.data.annotations import mask_path
from napari_tlseg.data.case import Case
from napari_tlseg.engine.jobs import Predict
from napari_tlseg.errors import InputError
from napari_tlseg.gui.widgets.form import field_help
from napari_tlseg.gui.widgets.narrow import NarrowChoice
from napari_tlseg.options import Format

FORMATS: Mapping[Format, str] = {
    "auto": "As the images",
    "png": "PNG, for photographs",
    "tiff": "TIFF, with spacing",
    "nifti": "NIfTI, with spacing and orientation",
}


class CaseChoice(NarrowChoice):
    """All, those without a mask, or the one shown."""

    def __init__(self) -> None:
        super().__init__("which", "Which cases get a mask")
        for which in ("all", "unmasked", "shown"):
            self.addItem("", which)
        self.setCases((), None)

    def setCases(self, cases: Iterable[Case], shown: Case | None) -> None:
        """Those that there are."""
        everything = tuple(cases)
        self._cases = {
            "all": everything,
            "unmasked": tuple(case for case in everything if case.mask is None),
            "shown": () if shown is None else (shown,),
        }
        self.setItemText(0, f"All cases ({len(everything)})")
        self.setItemText(1, f"Cases without a mask ({len(self._cases['unmasked'])})")
        self.setItemText(2, "The case shown" + (f" ({shown.name})" if shown else ""))

    def cases(self) -> tuple[Case, ...]:
        """Those that are chosen."""
        return self._cases[self.currentData()]


class FormatChoice(NarrowChoice):
    """One of FORMATS."""

    def __init__(self) -> None:
        super().__init__("format", field_help(Predict)["format"])
        for value, words in FORMATS.items():
            self.addItem(words, value)

    def suit(self, cases: Iterable[Case]) -> None:
        """Where one of the cases is a volume, PNG is greyed, with the reason."""
        row, volume = self.findData("png"), next(filter(_is_volume, cases), None)
        self.model().item(row).setEnabled(volume is None)
        reason = f"{volume.name} is a volume, which PNG cannot hold" if volume else ""
        self.setItemData(row, reason, Qt.ItemDataRole.ToolTipRole)
        if volume and self.currentIndex() == row:
            self.setCurrentIndex(self.findData("auto"))


def _is_volume(case: Case) -> bool:
    """Which PNG cannot hold."""
    try:
        mask_path(case, Path(), "png")
    except InputError:
        return True
    return False

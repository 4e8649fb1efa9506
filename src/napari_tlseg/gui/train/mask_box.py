"""The masks that training learns from: how many there are, and painting one for the case shown."""

from __future__ import annotations

from qtpy.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_tlseg.data.case import Case
from napari_tlseg.gui.case_row import CaseRow
from napari_tlseg.gui.notices import guarded
from napari_tlseg.gui.session import Session


class MaskBox(QWidget):
    """Counts the masks; a button begins or ends painting; of a volume it says which slices are fully painted."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._count = QLabel(wordWrap=True, objectName="masks")
        self._case = CaseRow(session)
        self._goes_on = False
        """The mask of the case that comes next is to be painted, as that of the one before was."""
        self._paint = QPushButton("Paint a mask of this case", objectName="paint", checkable=True)
        self._paint.setToolTip(
            "A layer to paint the target in, with napari's brush, polygon and fill tools; saved as you go"
        )
        self._class = QComboBox(objectName="class", toolTip="The class that the brush paints")
        self._state = QLabel(wordWrap=True, objectName="mask_state")
        self._painted = QCheckBox("This slice is fully painted", objectName="painted")
        self._painted.setToolTip(
            "Training learns only from slices that are fully painted: also from one without any target. "
            "A slice that you paint in is ticked by itself; untick it until you are through with it."
        )
        self._slices = QLabel(wordWrap=True, objectName="slices")
        row = QHBoxLayout()
        row.addWidget(self._paint, 1)
        row.addWidget(self._class)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._count)
        layout.addWidget(self._case)
        layout.addLayout(row)
        for widget in (self._state, self._painted, self._slices):
            layout.addWidget(widget)
        self._connect()
        self._say("")
        self._refresh()

    def _connect(self) -> None:
        session, painter = self.session, self.session.painter
        for signal in (session.opened, session.masks_changed, session.case_shown, painter.planes_changed):
            signal.connect(self._refresh)
        session.case_shown.connect(guarded(self._go_on))
        session.images.failed.connect(self._stay)
        self._case.stepped.connect(guarded(self._step))
        painter.began.connect(self._begin)
        painter.ended.connect(self._refresh)
        painter.saved.connect(self._say_saved)
        session.viewer.dims.events.current_step.connect(self._show_slice)
        self._paint.clicked.connect(guarded(self._toggle))
        self._painted.clicked.connect(guarded(self._tick))
        self._class.activated.connect(guarded(self._take_class))

    def _toggle(self) -> None:
        if self._paint.isChecked():
            self.session.painter.begin()
        else:
            self.session.painter.leave()
            self._say("")
        self._refresh()

    def _step(self, by: int) -> None:
        """Who paints goes on painting."""
        self._goes_on = self.session.painter.case is not None or self._goes_on
        self.session.step(by)

    def _go_on(self) -> None:
        if self._goes_on:
            self._goes_on = False
            self.session.painter.begin()

    def _stay(self) -> None:
        self._goes_on = False

    def _begin(self) -> None:
        layer = self.session.canvas.get("mask")
        if layer is not None:  # the label can be picked in napari's own controls, too
            layer.events.selected_label.connect(self._show_class)
            self._show_class()
        self._refresh()

    def _tick(self) -> None:
        self.session.painter.set_painted(self.session.plane(), self._painted.isChecked())
        self._refresh()

    def _take_class(self, index: int) -> None:
        layer = self.session.canvas.get("mask")
        if layer is not None:
            layer.selected_label = index + 1

    def _show_class(self, *_: object) -> None:
        layer = self.session.canvas.get("mask")
        if layer is not None:
            self._class.setCurrentIndex(layer.selected_label - 1)

    def _say_saved(self, case: Case) -> None:
        self._say(f"The mask of {case.name} is saved.")

    def _say(self, text: str) -> None:
        self._state.setText(text)
        self._state.setVisible(bool(text))

    def _refresh(self, *_: object) -> None:
        dataset, case, painter = self.session.dataset, self.session.case, self.session.painter
        masks = 0 if dataset is None else len(dataset.labelled)
        self._count.setText(
            f"{masks} mask{'' if masks == 1 else 's'}" if masks else "No masks yet: paint one or two to begin with."
        )
        self._paint.setEnabled(case is not None)
        painting = painter.case is not None
        self._paint.setChecked(painting)
        has = case is not None and case.mask is not None
        self._paint.setText("Done painting" if painting else f"{'Correct the' if has else 'Paint a'} mask of this case")
        classes = dataset.classes[1:] if dataset is not None else ()
        if [self._class.itemText(index) for index in range(self._class.count())] != list(classes):
            self._class.clear()
            self._class.addItems(classes)
        self._class.setVisible(painting and len(classes) > 1)
        volume = painting and painter.case is not None and len(painter.case.geometry.shape) == 3
        self._painted.setVisible(volume)
        self._slices.setVisible(volume)
        self._slices.setText(f"Fully painted slices: {_listed(painter.planes)}")
        self._show_slice()

    def _show_slice(self, *_: object) -> None:
        if self._painted.isVisibleTo(self):
            self._painted.setChecked(self.session.plane() in self.session.painter.planes)


def _listed(planes: frozenset[int]) -> str:
    """As few words as possible.

    >>> _listed(frozenset({1, 2, 3, 7}))
    '1–3, 7'
    """
    parts: list[list[int]] = []
    for plane in sorted(planes):
        if parts and plane == parts[-1][-1] + 1:
            parts[-1].append(plane)
        else:
            parts.append([plane])
    return ", ".join(f"{part[0]}–{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts) or "none"

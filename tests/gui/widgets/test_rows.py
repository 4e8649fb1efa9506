"""A table that is as narrow as its dock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from napari_tlseg.gui.widgets.rows import Column, Row, Rows

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

pytestmark = pytest.mark.window
COLUMNS = (
    Column(title="Run"),
    Column(title="Source", spare=True),
    Column(title="Dice ± SD", number=True),
    Column(title="Precision", number=True, spare=True),
    Column(title="Held-out", number=True),
)
CELLS = ("a-very-long-name-of-a-run", "clicks-of-mine", "0.912 ± 0.05", "0.934", "0.905 ± 0.06")


def test_a_narrow_table_leaves_out_what_it_can_spare_and_does_not_scroll(qtbot: QtBot) -> None:
    rows = Rows("runs", COLUMNS, least=3, most=6)
    qtbot.addWidget(rows)
    rows.setColumnHidden(4, True)
    rows.setRows([Row(key=1, cells=CELLS)])
    rows.show()

    def left_out(width: int) -> list[int]:
        rows.resize(width, 120)
        qtbot.wait(5)
        assert rows.horizontalScrollBar().maximum() == 0
        assert rows.columnWidth(0) >= 14 * rows.fontMetrics().averageCharWidth(), "the name is legible"
        return [place for place in range(5) if rows.isColumnHidden(place)]

    seen, width = [left_out(700)], 700
    while seen[-1] != [1, 3, 4]:
        width -= 20
        seen.append(left_out(width))
    assert seen == sorted(seen, key=len) and [4] in seen and [1, 4] in seen, "the first spare one goes first"
    assert left_out(700) == [4], "and they come back"
    rows.setColumnHidden(4, False)
    rows.setRows([Row(key=1, cells=CELLS)])
    assert left_out(700) == []

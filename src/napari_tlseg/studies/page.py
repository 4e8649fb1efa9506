"""One page of HTML that is whole in itself: text, tables, and the pictures in it."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

PAGE = "report.html"


def page(title: str, parts: Sequence[str]) -> str:
    """The parts below a heading, and what it is not for."""
    last = "<p>For research, not for diagnosis or treatment.</p>"
    return HTML.format(title=escape(title), body="\n".join([f"<h1>{escape(title)}</h1>", *parts, last]))


def heading(text: str) -> str:
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def picture(path: Path) -> str:
    """A PNG."""
    inline = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{escape(path.stem)}" src="data:image/png;base64,{inline}">'


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [("th", header), *(("td", row) for row in rows)]
    cells = ("".join(f"<{tag}>{escape(_cell(cell))}</{tag}>" for cell in line) for tag, line in lines)
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in cells) + "</table>"


def table_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Of rows with equal keys, which are the header; nothing of none."""
    return table(list(rows[0]), [list(row.values()) for row in rows]) if rows else ""


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "∞" if math.isinf(value) else f"{value:.3g}"
    return "–" if value is None else "∞" if value == "inf" else str(value)


HTML = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
img {{ max-width: 100%; display: block; margin: 1rem 0 }}
table {{ border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }}
td, th {{ border-bottom: 1px solid #ddd; padding: .25rem .7rem; text-align: left; vertical-align: top }}
</style></head><body>
{body}
</body></html>
"""

"""That what the reader is shown runs as it stands."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from napari_tlseg.data.folder import read_dataset

JOURNEY = Path(__file__).resolve().parents[1] / "examples" / "journey.py"


def test_the_whole_journey_takes_no_more_than_15_lines():
    statements = ast.parse(JOURNEY.read_text(encoding="utf-8")).body[1:]  # the first is the docstring
    assert len(statements) <= 15
    assert sum(node.end_lineno - node.lineno + 1 for node in statements) <= 15


@pytest.mark.slow
def test_the_journey_arrives(tmp_path):
    command = [sys.executable, "-W", "error", JOURNEY, tmp_path, "3"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(rf"Dice of [01]\.\d+ on held-out photographs; all is in {tmp_path}\n", done.stdout)
    assert done.stderr == ""
    cases = read_dataset(tmp_path / "data").cases
    assert {path.stem for path in (tmp_path / "masks").glob("*.png")} == {case.name for case in cases}
    assert (tmp_path / "clicks.safetensors").is_file()
    assert (tmp_path / "run" / "summary.json").is_file()

"""Who may import whom, tried in fresh processes where a forbidden package cannot be found."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import napari_tlseg

WINDOWS = ("napari", "qtpy", "PyQt5", "PyQt6", "PySide2", "PySide6", "superqt", "magicgui", "pyqtgraph", "vispy")
HEIGHT = {"errors": 0, "events": 0, "data": 1, "nets": 2, "learn": 3, "engine": 4, "studies": 5}
HEIGHT |= {"options": 0, "gui": 6, "telling": 6, "cli": 6, "journey": 6}
"""From the ground up: a module imports its own height and below."""
MODULES = sorted(module.name for module in pkgutil.walk_packages(napari_tlseg.__path__, "napari_tlseg."))
FACE = [name for name in MODULES if name.startswith("napari_tlseg.gui")]
LIGHT = (
    "studies",
    "studies.jobs",
    "studies.teaching",
    "studies.drift",
    "cli",
    "errors",
    "events",
    "options",
    "telling",
    "engine",
    "engine.client",
    "engine.jobs",
    "engine.trainings",
    "engine.messages",
)
TORCHLESS = [
    name
    for name in MODULES
    if name in {f"napari_tlseg.{each}" for each in LIGHT} or name.startswith("napari_tlseg.data")
]


def import_without(blocked: tuple[str, ...], modules: list[str]) -> None:
    """Import each module in one new process in which nothing of `blocked` can be imported."""
    code = f"""
import importlib, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"{{name}} is blocked", name=name)
sys.meta_path.insert(0, Blocker())
for module in {modules!r}:
    importlib.import_module(module)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_bare_package_imports_nothing_heavy() -> None:
    code = "import sys, napari_tlseg; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "torchvision", "monai", *WINDOWS}


def test_the_blocker_blocks() -> None:
    with pytest.raises(AssertionError, match="json is blocked"):
        import_without(("json",), ["json.decoder"])


def test_everything_but_the_face_imports_without_windows() -> None:
    import_without(WINDOWS, [name for name in MODULES if name not in FACE])


def test_data_events_and_jobs_import_without_torch() -> None:
    assert len(TORCHLESS) > 3
    import_without(("torch",), TORCHLESS)


@pytest.mark.window
def test_the_face_imports_without_torch() -> None:
    assert FACE
    import_without(("torch",), FACE)


def imported(module: str) -> set[str]:
    """What a module names in its imports, also in those inside functions."""
    path = Path(napari_tlseg.__path__[0]).joinpath(*module.split(".")[1:])
    source = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text("utf-8")
    nodes = list(ast.walk(ast.parse(source)))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    origins = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    return plain | {f"{node.module}.{alias.name}" for node in origins for alias in node.names}


@pytest.mark.parametrize("module", [name for name in MODULES if not name.endswith("._version")])
def test_imports_only_point_down(module: str) -> None:
    parts = [name.split(".")[1] for name in imported(module) if name.startswith("napari_tlseg.")]
    above = {part for part in parts if HEIGHT.get(part, 0) > HEIGHT[module.split(".")[1]]}
    assert not above, f"{module} imports {above}"

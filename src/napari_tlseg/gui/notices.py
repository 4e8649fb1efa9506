"""What goes wrong in the window, as one sentence for the user and a record in the log."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from napari.utils.notifications import show_error, show_info
from platformdirs import user_log_path

from napari_tlseg.errors import InputError
from napari_tlseg.gui.words import in_words

P = ParamSpec("P")
R = TypeVar("R")
POSITIONAL = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
logger = logging.getLogger("napari_tlseg")


def log_file() -> Path:
    """Where the window and the worker process say what happened."""
    return user_log_path("napari-tlseg", appauthor=False) / "napari-tlseg.log"


class LogFile(logging.Handler):
    """Adds each record to the log, which the worker writes to as well; a log that cannot be written keeps no one."""

    def emit(self, record: logging.LogRecord) -> None:
        file = log_file()
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="utf-8") as log:
                log.write(self.format(record) + "\n")


_to_file = LogFile()
_to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
logger.addHandler(_to_file)


def say(sentence: str) -> None:
    """A notification that things go well."""
    show_info(sentence)


def complain(sentence: str) -> None:
    """A notification that something went wrong: what, and the way out."""
    logger.error(sentence)
    show_error(in_words(sentence))


def explained(error: Exception) -> str:
    """An error as a sentence; one of ours (a defect) says where to find more."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        what = (error.strerror or str(error)).lower()
        return f"{where}{what}; look at the file and its folder, what was saved is intact"
    logger.error("a defect", exc_info=error)
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return f"an error in napari-tlseg ({what}); what was saved is intact; please report it with the log {log_file()}"


def guarded(slot: Callable[P, R]) -> Callable[..., R | None]:
    """A slot or callback that tells the user what went wrong in it, instead of passing it on to Qt.

    As Qt does, it drops the arguments of a signal that the slot does not take.
    """
    kinds = [parameter.kind for parameter in inspect.signature(slot).parameters.values()]
    most = None if inspect.Parameter.VAR_POSITIONAL in kinds else sum(kind in POSITIONAL for kind in kinds)

    @functools.wraps(slot)
    def run(*args: Any, **kwargs: Any) -> R | None:
        try:
            return slot(*args[:most], **kwargs)
        except Exception as error:
            complain(explained(error))
            return None

    return run

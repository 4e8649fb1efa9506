"""The close button of a window, as the window manager presses it."""

from __future__ import annotations

import ctypes
from ctypes.util import find_library

import pytest
from qtpy.QtWidgets import QApplication, QWidget


class _ClientMessage(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("serial", ctypes.c_ulong),
        ("send_event", ctypes.c_int),
        ("display", ctypes.c_void_p),
        ("window", ctypes.c_ulong),
        ("message_type", ctypes.c_ulong),
        ("format", ctypes.c_int),
        ("data", ctypes.c_long * 5),
        ("padding", ctypes.c_long * 24),  # XSendEvent copies a whole XEvent
    )


def press_close(window: QWidget) -> None:
    """Qt cannot send itself such an event: it comes from X11 or not at all."""
    library = find_library("X11")
    if QApplication.platformName() != "xcb" or library is None:
        pytest.skip("needs X11")
    x11 = ctypes.CDLL(library)
    x11.XOpenDisplay.restype = ctypes.c_void_p
    x11.XInternAtom.restype = ctypes.c_ulong
    display = ctypes.c_void_p(x11.XOpenDisplay(None))
    protocols, delete = (x11.XInternAtom(display, name, 0) for name in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW"))
    message = _ClientMessage(type=33, window=int(window.winId()), message_type=protocols, format=32)
    message.data[0] = delete
    x11.XSendEvent(display, ctypes.c_ulong(message.window), 0, ctypes.c_long(0), ctypes.byref(message))
    x11.XCloseDisplay(display)

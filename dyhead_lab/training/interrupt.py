"""Ctrl-C, and Jupyter's stop button, as a request: the step in progress ends, then the run is saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ..errors import UserError


class Interrupted(UserError):
    """A run was stopped on request. Its checkpoint is written; the message says how to continue."""


@contextmanager
def interrupt_as_request() -> Iterator[Callable[[], bool]]:
    """Inside the ``with`` block the first interrupt only sets a flag; a second one stops at once.

    A step that is cut in two leaves weights of one iteration beside the optimiser of another, so that the run
    would not continue as if nothing had happened.

    Yields:
        a function that says whether an interrupt has come. Outside of the main thread, where Python takes no
        signals, it never does.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(_signal: int, _frame: FrameType | None) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)

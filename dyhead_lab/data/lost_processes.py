"""What PyTorch raises when a process that reads images is ended reaches whoever waits for images, and nobody else.

PyTorch raises it from the handler of a signal, which runs wherever Python is by then: in the middle of a step, or while
a checkpoint is written.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TypeVar

T = TypeVar("T")


class _Handler:
    """The handler of SIGCHLD while somebody reads; PyTorch's own stands behind it, and is asked each time.

    Args:
        raises: PyTorch's handler.

    Attributes:
        readers: how many iterators are open; with none of them it changes nothing.
        waits: whether one of them waits for a batch.
        lost: the words of what was raised while none did; its traceback would keep all that ran by then.
    """

    def __init__(self, raises: Callable[[int, FrameType | None], object]):
        self.raises, self.readers, self.waits = raises, 0, False
        self.lost: str | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        try:
            self.raises(number, frame)
        except RuntimeError as error:
            if self.waits or not self.readers:
                raise
            self.lost = str(error)

    def next_of(self, batches: Iterator[T]) -> T:
        """The next batch.

        Raises:
            RuntimeError: a process was ended, now or since the last batch.
            StopIteration: there is none.
        """
        try:
            self.waits = True
            if self.lost is not None:
                raise RuntimeError(self.lost)
            return next(batches)
        finally:
            self.waits = False


def while_waiting(batches: Iterator[T]) -> Iterator[T]:
    """Batches of a ``DataLoader`` whose processes run already.

    Raises:
        RuntimeError: as the ``DataLoader`` does, but never between two batches.
    """
    handler = _installed()
    if handler is None:
        yield from batches
        return
    handler.readers += 1
    try:
        while True:
            try:
                batch = handler.next_of(batches)
            except StopIteration:
                return
            yield batch
    finally:
        handler.readers -= 1
        if not handler.readers:
            handler.lost = None  # nobody is left whom it concerns


def _installed() -> _Handler | None:
    """The handler, put before PyTorch's where that is set; None where there is none, as on Windows and in a thread."""
    if not hasattr(signal, "SIGCHLD"):
        return None
    present = signal.getsignal(signal.SIGCHLD)
    if isinstance(present, _Handler):
        return present
    if not callable(present) or threading.current_thread() is not threading.main_thread():
        return None
    handler = _Handler(present)
    signal.signal(signal.SIGCHLD, handler)
    return handler

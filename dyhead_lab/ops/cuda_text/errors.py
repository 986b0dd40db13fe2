"""What is wrong with a kernel, at its line."""

from __future__ import annotations

from ...errors import UserError


class KernelError(UserError):
    """A kernel does not compile, or did what a GPU does not forgive.

    Attributes:
        kind: ``"text"``: no kernel in the text, or one that is not understood; ``"compile"``; ``"unfinished"``: the
            text says ``#error``; ``"arguments"``: they do not fit the kernel, or the launch does not fit a GPU;
            ``"bounds"``: outside of a tensor or of shared memory; ``"race"``: two threads, one of them writing, and
            nothing between; ``"barrier"``: not reached by all; ``"unwritten"``: shared memory that nobody had written
            was read; ``"alignment"``; ``"shared limit"``; ``"scheduler"``: threads wait for ever; ``"crash"``;
            ``"time"``; ``"machine"``: something is missing here.
        line: where in the text, from 1; None where no line is to blame or known.
    """

    def __init__(self, kind: str, message: str, line: int | None = None):
        super().__init__(message)
        self.kind, self.line = kind, line


def at_line(text: str, line: int | None, message: str) -> str:
    """The message, with its line of the text below it."""
    lines = text.splitlines()
    if line is None or not 1 <= line <= len(lines):
        return message
    return f"line {line}: {message}\n{line:>5} | {lines[line - 1].strip()}"

"""What a launch did: which line moved how much memory."""

from __future__ import annotations

import html
from dataclasses import dataclass

from ..native import Access

SECTOR_BYTES = 32
SHARED = "shared memory"


@dataclass(frozen=True)
class Traffic:
    """What all requests of one line to one memory come to.

    Attributes:
        line: of the kernel's text, from 1; None where it is not known.
        operation: ``"read"``, ``"write"`` or ``"atomic_add"``.
        memory: a parameter's name, or ``"shared memory"``.
        requests: how often a warp asked; its lanes that come to an instruction together ask at once.
        elements: how many accesses of threads these requests joined.
        bytes_used: what the threads asked for.
        units: sectors of 32 bytes for a tensor; for shared memory passes, one for each different word that the busiest
            of its 32 banks has to give.
    """

    line: int | None
    operation: str
    memory: str
    requests: int
    elements: int
    bytes_used: int
    units: int

    @property
    def is_shared(self) -> bool:
        return self.memory == SHARED


@dataclass(frozen=True)
class Launch:
    """One launch of a kernel; shows itself as a table.

    Attributes:
        kernel: its name.
        where: ``"emulator"``, ``"recording"`` (of the emulator) or the name of a GPU.
        blocks, threads: of the launch, (x, y, z).
        traffic: in the order of the lines. Empty on a GPU, which does not tell.
        steps: what the threads that were watched did, in order.
    """

    kernel: str
    where: str
    blocks: tuple[int, int, int]
    threads: tuple[int, int, int]
    traffic: tuple[Traffic, ...] = ()
    steps: tuple[Access, ...] = ()

    def sectors(self, memory: str | None = None, operation: str | None = None) -> int:
        """Sectors of global memory that the warps' requests took; no cache is modelled.

        Args:
            memory: a parameter's name; all of them if not given.
            operation: ``"read"``, ``"write"`` or ``"atomic_add"``; all of them if not given.
        """
        return sum(row.units for row in self._rows(memory, operation))

    def requests(self, memory: str | None = None, operation: str | None = None) -> int:
        """How often a warp asked global memory, as in :meth:`sectors`."""
        return sum(row.requests for row in self._rows(memory, operation))

    def bytes_used(self, memory: str | None = None, operation: str | None = None) -> int:
        """Bytes of global memory that threads asked for, as in :meth:`sectors`."""
        return sum(row.bytes_used for row in self._rows(memory, operation))

    def bytes_moved(self, memory: str | None = None, operation: str | None = None) -> int:
        """Bytes of global memory that moved: 32 for each sector."""
        return SECTOR_BYTES * self.sectors(memory, operation)

    def _rows(self, memory: str | None, operation: str | None) -> list[Traffic]:
        rows = [row for row in self.traffic if not row.is_shared]
        return [row for row in rows if memory in (None, row.memory) and operation in (None, row.operation)]

    @property
    def _title(self) -> str:
        size = f"{_size(self.blocks)} blocks of {_size(self.threads)} threads"
        return f"{self.kernel}: {size}, {self.where}"

    @property
    def _table(self) -> list[tuple[str, ...]]:
        head = ("line", "operation", "memory", "requests", "sectors", "bytes used", "bytes moved")
        rows: list[tuple[str, ...]] = [head]
        for row in self.traffic:
            moved = "" if row.is_shared else f"{SECTOR_BYTES * row.units:,}"
            units = f"{row.units:,}" + (" passes" if row.is_shared else "")
            line = "?" if row.line is None else str(row.line)
            operation = row.operation.replace("_", " ")
            rows.append((line, operation, row.memory, f"{row.requests:,}", units, f"{row.bytes_used:,}", moved))
        return rows

    def __repr__(self) -> str:
        if not self.traffic:
            return self._title
        widths = [max(map(len, column)) for column in zip(*self._table, strict=True)]
        lines = ["  ".join(word.rjust(n) for word, n in zip(row, widths, strict=True)) for row in self._table]
        return "\n".join([self._title, *lines])

    def _repr_html_(self) -> str:
        if not self.traffic:
            return f"<p>{html.escape(self._title)}</p>"
        head, *rows = self._table
        cells = "".join(f"<th>{html.escape(word)}</th>" for word in head)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(word)}</td>" for word in row) + "</tr>" for row in rows)
        return f"<p>{html.escape(self._title)}</p><table><tr>{cells}</tr>{body}</table>"


def _size(size: tuple[int, int, int]) -> str:
    used = [str(n) for n in size]
    while len(used) > 1 and used[-1] == "1":
        used.pop()
    return " x ".join(used)

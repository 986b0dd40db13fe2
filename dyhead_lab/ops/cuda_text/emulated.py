"""Runs a kernel's text in the emulator, in a process of its own, and reads its report."""

from __future__ import annotations

import json
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..native import OPERATIONS, Access
from . import recording, toolchain
from .errors import KernelError, at_line
from .launch import SHARED, Launch, Traffic
from .signature import Signature, shared_name

SECONDS = 120  # in which a launch must end
WORD = struct.Struct("f")

Size = tuple[int, int, int]


@dataclass(frozen=True)
class Request:
    """A launch: all but the tensors' contents is here in words, ``packed`` holds everything in bytes.

    Attributes:
        text, signature: of the kernel.
        blocks, threads: (x, y, z).
        packed: what ``csrc/emulator/text_main.cpp`` reads.
    """

    text: str
    signature: Signature
    blocks: Size
    threads: Size
    packed: bytes


def request(
    text: str,
    signature: Signature,
    blocks: Size,
    threads: Size,
    shared_bytes: int,
    arguments: Sequence[Any],
    watch: tuple[int, range] | None,
) -> Request:
    """A launch that can be run. ``watch`` is a block, counted through the grid, and threads of it."""
    block, watched = watch or (-1, range(0))
    head = (*blocks, *threads, shared_bytes, block, watched.start, watched.stop - 1, len(arguments))
    parts = [struct.pack(f"<{len(head)}q", *head)]
    for parameter, argument in zip(signature.parameters, arguments, strict=True):
        is_tensor = isinstance(argument, torch.Tensor)
        content = argument.numpy().tobytes() if is_tensor else parameter.packed(argument)
        parts += [struct.pack("<3q", is_tensor, len(content), parameter.element_bytes), content]
    return Request(text, signature, blocks, threads, b"".join(parts))


def run(asked: Request, arguments: Sequence[Any]) -> Launch:
    """Run it, and write into the tensors what the kernel wrote.

    Raises:
        KernelError: the kernel did what a GPU does not forgive; or no compiler is here, and no recording holds this.
    """
    where = "emulator"
    if toolchain.why_missing():
        where = "recording"
        report, content = recording.find(asked.text, asked.packed)
    else:
        report, content = _run(asked, arguments)
        recording.keep(asked.text, asked.packed, report, content)
    if report["printed"]:
        sys.stdout.write(report["printed"])
    if report["kind"] != "ok":
        raise _fault(report, asked)
    start = 0
    for tensor in _writable(asked, arguments):
        end = start + tensor.numel() * tensor.element_size()
        if end > start:
            new = torch.frombuffer(bytearray(content[start:end]), dtype=tensor.dtype)
            tensor.copy_(new.view(tensor.shape))
        start = end
    traffic, steps = _traffic(report, asked), _steps(report, asked)
    return Launch(asked.signature.name, where, asked.blocks, asked.threads, traffic, steps)


def _writable(asked: Request, arguments: Sequence[Any]) -> list[torch.Tensor]:
    """The tensors that a kernel may write."""
    pairs = zip(asked.signature.parameters, arguments, strict=True)
    return [argument for parameter, argument in pairs if parameter.is_pointer and not parameter.is_constant]


def _run(asked: Request, arguments: Sequence[Any]) -> tuple[dict[str, Any], bytes]:
    """The report, with lines for places, and the bytes of the tensors that are written."""
    program = toolchain.program(asked.text, asked.signature)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("request", "buffers", "report")]
        files[0].write_bytes(asked.packed)
        try:
            done = subprocess.run(
                [str(program), *map(str, files)], stdout=subprocess.PIPE, timeout=SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return {"kind": "time", "printed": ""}, b""
        printed = done.stdout.decode(errors="replace")
        if not files[2].is_file():
            return {"kind": "crash", "printed": printed, "signal": -done.returncode}, b""
        report = json.loads(files[2].read_text(encoding="utf-8"))
        content = files[1].read_bytes() if files[1].is_file() else b""
    content = _written(content, asked, arguments)
    report["printed"] = printed
    _name_lines(report, program)
    return report, content


def _written(content: bytes, asked: Request, arguments: Sequence[Any]) -> bytes:
    """Of all tensors' bytes those of the tensors that a kernel may write."""
    parts, start = [], 0
    for parameter, argument in zip(asked.signature.parameters, arguments, strict=True):
        if parameter.is_pointer:
            end = start + argument.numel() * argument.element_size()
            parts += [] if parameter.is_constant else [content[start:end]]
            start = end
    return b"".join(parts)


def _name_lines(report: dict[str, Any], program: Path) -> None:
    """Put lines of the text where the program said places in its code."""
    rows: list[tuple[Any, Any]] = [(report, "place")] if "place" in report else []
    rows += [(report["other"], 2)] if "other" in report else []
    rows += [(row, 0) for row in report.get("traffic", ())] + [(row, -1) for row in report.get("steps", ())]
    known = toolchain.lines(program, [row[key] for row, key in rows])
    for row, key in rows:
        row[key] = known[row[key]]


# What a report says


def _memory(number: int, asked: Request) -> str:
    return SHARED if number < 0 else asked.signature.parameters[number].name


def _traffic(report: dict[str, Any], asked: Request) -> tuple[Traffic, ...]:
    sums: dict[tuple[int | None, str, str], list[int]] = {}
    for line, region, operation, *numbers in report["traffic"]:
        key = line, OPERATIONS[operation], _memory(region, asked)
        sums[key] = [a + b for a, b in zip(sums.get(key, [0] * 4), numbers, strict=True)]
    ordered = sorted(sums.items(), key=lambda item: item[0][0] or 0)
    return tuple(Traffic(*key, *numbers) for key, numbers in ordered)


def _steps(report: dict[str, Any], asked: Request) -> tuple[Access, ...]:
    steps = []
    for thread, operation, region, index, count, before, after, _ in report["steps"]:
        parameter = asked.signature.parameters[region] if region >= 0 else None
        dtype = parameter.dtype if parameter and parameter.dtype else torch.float32
        old, new = (_value(bits, dtype) for bits in (before, after))
        kind = OPERATIONS[operation]
        value = {"read": old, "write": new, "atomic_add": new - old}[kind]
        steps.append(Access(thread, kind, _memory(region, asked), index, count, value, 0))
    return tuple(steps)


def _value(bits: int, dtype: torch.dtype) -> float:
    return float(torch.frombuffer(bytearray(bits.to_bytes(8, sys.byteorder)), dtype=dtype)[0])


def _fault(report: dict[str, Any], asked: Request) -> KernelError:
    kind, line = report["kind"], report.get("place")
    told = {"time": _time, "crash": _crash, "barrier": _barrier, "race": _race, "scheduler": _scheduler}
    message = told.get(kind, _touched)(report, asked)
    return KernelError("bounds" if kind == "null" else kind, at_line(asked.text, line, message), line)


def _time(report: dict[str, Any], asked: Request) -> str:
    return f"{asked.signature.name} did not end within {SECONDS} seconds: is there a loop that never ends?"


def _crash(report: dict[str, Any], asked: Request) -> str:
    if report["signal"] == signal.SIGFPE:
        return f"{asked.signature.name} divides a whole number by zero"
    return f"{asked.signature.name} crashed (signal {report['signal']}): it used memory that belongs to nobody"


def _scheduler(report: dict[str, Any], asked: Request) -> str:
    return str(report["message"])


def _thread(thread: int, block: int, asked: Request) -> str:
    return f"thread {_coordinates(thread, asked.threads)} of block {_coordinates(block, asked.blocks)}"


def _coordinates(number: int, size: Size) -> str:
    at = (number % size[0], number // size[0] % size[1], number // size[0] // size[1])
    used = at[: max(n + 1 for n in range(3) if size[n] > 1 or n == 0)]
    return str(used[0]) if len(used) == 1 else str(used)


def _barrier(report: dict[str, Any], asked: Request) -> str:
    who = _thread(report["thread"], report["block"], asked)
    return (
        f"{who} has ended, or gone another way, while others of its block wait at __syncthreads(): all threads of a "
        "block must come to it, so it stands neither behind a `return` nor in an `if` that some do not take"
    )


def _element(report: dict[str, Any], asked: Request) -> str:
    region, index = report["region"], report["index"]
    return f"element {index} of {shared_name(asked.text)}" if region < 0 else f"{_memory(region, asked)}[{index}]"


def _race(report: dict[str, Any], asked: Request) -> str:
    block, thread, line, wrote = report["other"]
    does = "writes" if report["wrote"] else "reads"
    did = "wrote" if wrote else "read"
    who, other = _thread(report["thread"], report["block"], asked), _thread(thread, block, asked)
    place = "" if line is None else f" in line {line}"
    remedy = "no __syncthreads() stands between" if block == report["block"] else "blocks do not wait for each other"
    return f"race: {who} {does} {_element(report, asked)}, which {other} {did}{place}; {remedy}"


def _touched(report: dict[str, Any], asked: Request) -> str:
    kind = report["kind"]
    if kind == "shared limit":
        return "a block has 48 KB of shared memory, the kernel asks for more"
    who, element = _thread(report["thread"], report["block"], asked), _element(report, asked)
    if kind == "unwritten":
        return f"{who} reads {element}, which no thread of its block has written"
    if kind == "alignment":
        return f"{who} touches {report['bytes']} bytes at once at {element}: their address must be a multiple of that"
    if kind == "null":
        return f"{who} follows a pointer that points nowhere"
    if report["region"] < 0:
        return f"{who} touches {element}, which lies behind its end: is shared_bytes large enough?"
    return f"{who} touches {element}, which lies outside of the tensor"

"""The command line: ``dyhead-lab COMMAND``. Each command is a module with ``add_arguments`` and ``run``."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import entry_points
from io import TextIOWrapper

from . import __version__
from .errors import UserError
from .platforms import bound_processors, processors

#: command -> (module, one line of help). Modules are imported only when their command runs.
COMMANDS: dict[str, tuple[str, str]] = {
    "doctor": ("dyhead_lab.doctor", "say what works on this machine and how to mend what does not"),
    "data": ("dyhead_lab.commands.data", "make, convert or download data sets"),
    "zoo": ("dyhead_lab.commands.zoo", "list what can be trained, with the AP to expect"),
    "weights": (
        "dyhead_lab.commands.weights",
        "list published weights, fetch them, hold them against their source",
    ),
    "train": ("dyhead_lab.commands.train", "train a recipe of the zoo"),
    "eval": ("dyhead_lab.commands.eval", "print the 12 COCO numbers of a trained model"),
    "errors": ("dyhead_lab.commands.errors", "break the mistakes of a trained model down, and draw the worst images"),
    "compare": ("dyhead_lab.commands.compare", "show runs side by side, as a table and as curves"),
    "detect": ("dyhead_lab.commands.detect", "draw the boxes that a trained model finds on your images"),
    "look": ("dyhead_lab.commands.look", "write a page that shows what a detector looked at in your photograph"),
    "experiment": ("dyhead_lab.commands.experiment", "measure what an experiment compares, or show what was recorded"),
    "efficiency": ("dyhead_lab.commands.efficiency", "count what a recipe's detector costs, by part"),
    "bench": ("dyhead_lab.commands.bench", "measure operators, loading and training on this machine"),
}

#: Errors that come of no mistake in a program, whatever it writes: no space left, and no more for this user.
DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)


def commands() -> dict[str, tuple[str, str]]:
    """All commands: ours, and those of installed packages that name themselves a ``dyhead_lab.commands`` entry point.

    Such a package gives a module with ``add_arguments``, ``run`` and one line of help, ``HELP``.
    """
    others = {found.name: (found.value, found.load().HELP) for found in entry_points(group="dyhead_lab.commands")}
    return {**COMMANDS, **others}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        the exit status: 0 well, 1 a mistake that the user can mend or output that cannot be written, 130 interrupted,
        141 nobody reads the output any more, as where it goes to ``head``: the status of a program that is ended by
        SIGPIPE.
    """
    _fill_closed_streams()
    if processors() < bound_processors():  # torch counts those that a container sees, not those that it gets
        os.environ.setdefault("OMP_NUM_THREADS", str(processors()))
    try:
        try:
            return _run(list(sys.argv[1:] if argv is None else argv))
        finally:
            sys.stdout.flush()
    except OSError as error:
        if not isinstance(_output_problem(), type(error)):
            raise  # of another pipe or disk than that of the output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python writes at its exit
        if isinstance(error, BrokenPipeError):
            return 141
        print(f"dyhead-lab: cannot write the output: {error.strerror or error}", file=sys.stderr)
        return 1


def _fill_closed_streams() -> None:
    """Let output that the caller has closed (``>&-``, ``pythonw``) lead to nowhere; Python has None there then."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # to the end of the process


def _output_problem() -> OSError | None:
    """Why nothing can be written to the output; None where it can."""
    try:
        print(flush=True)
    except OSError as error:
        return error
    return None


def _run(argv: list[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may lack letters; a table with "?" is better than none
    parser = argparse.ArgumentParser(prog="dyhead-lab", description="A workbook on attention in object detection.")
    parser.add_argument("--version", action="version", version=f"dyhead-lab {__version__}")
    there = commands()
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = next((word for word in argv if not word.startswith("-")), None)
    for name, (module, line) in there.items():
        command = subparsers.add_parser(name, help=line, description=line[0].upper() + line[1:] + ".")
        if name == chosen:
            import_module(module).add_arguments(command)
    try:
        args = parser.parse_args(argv)
        return import_module(there[args.command][0]).run(args)
    except UserError as error:
        print(f"dyhead-lab {chosen}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in DISK_IS_FULL or _output_problem() is not None:  # then the output is what is full
            raise
        where = "" if error.filename is None else f" {error.filename2 or error.filename}"
        print(f"dyhead-lab {chosen}: cannot write{where}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())

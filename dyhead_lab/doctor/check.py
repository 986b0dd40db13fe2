"""What a check is, and the words that all checks share.

A check is a small function that returns a few words about what it found. It raises :class:`Missing` for what is
not there and :class:`Broken` for what is there and does not work. Any other exception means broken as well, so that
one bad package cannot hide the state of the others.
"""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name


@dataclass(frozen=True)
class Check:
    """What one check found.

    Attributes:
        status: "ok", "missing" or "broken".
        name: the thing that was looked at.
        detail: a version, a number, or what is wrong.
        remedy: the command that mends it; empty if all is well.
        needed: whether the lab is unusable without it.
    """

    status: Literal["ok", "missing", "broken"]
    name: str
    detail: str
    remedy: str
    needed: bool

    def __str__(self) -> str:
        label = f"[{self.status}]"
        if self.status == "ok":
            return f"{label:9} {self.name}: {self.detail}"
        optional = "" if self.needed else " (optional)"
        return f"{label:9} {self.name}{optional}: {self.detail}; to mend: {self.remedy}"


class Missing(Exception):
    """The thing is not on this machine. ``remedy`` replaces the usual one of the check."""

    def __init__(self, detail: str, remedy: str = ""):
        super().__init__(detail)
        self.remedy = remedy


class Broken(Missing):
    """The thing is there and does not work. ``harmful``: the lab would stumble over it, optional or not."""

    def __init__(self, detail: str, remedy: str = "", harmful: bool = False):
        super().__init__(detail, remedy)
        self.harmful = harmful


def check(name: str, remedy: str, needed: bool = False) -> Callable[[Callable[[], str]], Callable[[], Check]]:
    """Make a check of a function that returns words or raises.

    Args:
        name: the thing that is looked at.
        remedy: the command that mends it, unless the exception names another one.
        needed: whether the lab is unusable without it.
    """

    def decorate(look: Callable[[], str]) -> Callable[[], Check]:
        @functools.wraps(look)
        def checked() -> Check:
            try:
                return Check("ok", name, look(), "", needed)
            except Broken as bad:
                return Check("broken", name, str(bad), bad.remedy or remedy, needed or bad.harmful)
            except Missing as bad:
                return Check("missing", name, str(bad), bad.remedy or remedy, needed)
            except Exception as crash:
                return Check("broken", name, one_line(f"{type(crash).__name__}: {crash}"), remedy, needed)

        return checked

    return decorate


def installed(package: str) -> str:
    """The version of an installed package; raises :class:`Missing` if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        raise Missing(f"{package} is not installed") from None


def specifier(package: str, dependency: str) -> SpecifierSet:
    """The versions of ``dependency`` that the metadata of ``package`` asks for."""
    for requirement in map(Requirement, requires(package) or []):
        if canonicalize_name(requirement.name) == canonicalize_name(dependency):
            return requirement.specifier
    raise Broken(f"the metadata of {package} does not name {dependency}")


def first_output(*command: str) -> str:
    """What a command prints; raises with its error text if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=30, check=False)
    if done.returncode:
        raise Broken(one_line(f"{' '.join(command)} fails: {done.stderr}"))
    return done.stdout


def one_line(text: str, most: int = 300) -> str:
    """``text`` on one line; of a long one the end, where compilers say what is wrong."""
    line = " ".join(text.split())
    return line if len(line) <= most else "... " + line[-most:]

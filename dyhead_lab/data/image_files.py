"""Find image files under the names that annotation files give them.

Tools write names as their machine had them: with backslashes, with the folders of a server in front, percent-encoded,
as a URL with a signature behind, with ``.JPG`` in place of ``.jpg``, or without the subfolder that the file lies in.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote


class Located(NamedTuple):
    """Where the images of a file lie.

    Attributes:
        elsewhere: name -> the file, for those that are not ``folder / name``.
        missing: name -> why it was not found; for the first also the nearest name that there is.
    """

    elsewhere: dict[str, Path]
    missing: dict[str, str]

    def notes(self) -> list[str]:
        """A line where files were found under other names."""
        if not self.elsewhere:
            return []
        name, file = next(iter(self.elsewhere.items()))
        return [f"{len(self.elsewhere)} image file(s) lie under another name, such as {name!r}: {file} taken"]


def locate_images(folder: Path, names: Iterable[str]) -> Located:
    """Find the file of every name below a folder, which is read once.

    A name that is not there as it stands is looked for with slashes for backslashes, without percent encoding or what
    follows ``?`` and ``#`` in a URL, without regard to upper and lower case, and with folders in front taken away or
    added. What it finds must be one file, which no other name means.

    Args:
        folder: what the names are relative to; where it is missing, so are all images.
        names: the ``file_name`` of each image.
    """
    wanted = list(dict.fromkeys(names))
    there = _files_below(folder)
    others = [name for name in wanted if name not in there and not os.path.isfile(folder / name)]
    if not others:
        return Located({}, {})
    by_last_part: dict[str, list[PurePosixPath]] = defaultdict(list)
    for file in sorted(there):
        by_last_part[PurePosixPath(file).name.casefold()].append(PurePosixPath(file))
    meant = {name: _fitting(name, by_last_part) for name in others}
    claims = Counter(str(files[0]) for files in meant.values() if len(files) == 1)
    claims.update(there.intersection(wanted))
    elsewhere: dict[str, Path] = {}
    missing: dict[str, str] = {}
    for name, files in meant.items():
        if not files:
            missing[name] = "" if missing else _nearest(name, by_last_part)  # it takes a while where there are many
        elif len(files) > 1:
            missing[name] = f"it may be {files[0]} or {files[1]}"
        elif claims[str(files[0])] > 1:
            missing[name] = f"it may be {files[0]}, but so may another name"
        else:
            elsewhere[name] = folder / files[0]
    return Located(elsewhere, missing)


def _files_below(folder: Path) -> set[str]:
    """Paths of all files below a folder, relative to it, with slashes."""
    files: set[str] = set()
    for here, _, names in os.walk(folder):
        prefix = Path(here).relative_to(folder).as_posix()
        files.update(names if prefix == "." else (f"{prefix}/{name}" for name in names))
    return files


def _fitting(name: str, by_last_part: dict[str, list[PurePosixPath]]) -> list[PurePosixPath]:
    """The files that a name may mean: those that share most of its last parts, in the right case if there are such."""
    for spelling in dict.fromkeys((name, unquote(name), unquote(_without_query(name)))):
        parts = _parts(spelling)
        folded = _folded(parts)
        candidates = by_last_part.get(folded[-1], []) if folded else []
        fitting = [file for file in candidates if _ends_alike(folded, _folded(file.parts))]
        same_case = [file for file in fitting if _ends_alike(parts, file.parts)]
        if fitting:
            longest = max(min(len(parts), len(file.parts)) for file in same_case or fitting)
            return [file for file in same_case or fitting if min(len(parts), len(file.parts)) == longest]
    return []


def _without_query(name: str) -> str:
    """A URL up to its path: stores sign their links behind it. Other names as they are; a file may hold a ``#``."""
    return re.split("[?#]", name, maxsplit=1)[0] if "://" in name else name


def _parts(name: str) -> tuple[str, ...]:
    """The parts of a path of any system, without drive and without what leads upwards."""
    parts = name.replace("\\", "/").split("/")
    return tuple(part for part in parts if part not in ("", ".", "..") and not part.endswith(":"))


def _folded(parts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part.casefold() for part in parts)


def _ends_alike(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether the shorter of two paths is the end of the longer one."""
    shared = min(len(one), len(other))
    return one[-shared:] == other[-shared:]


def _nearest(name: str, by_last_part: dict[str, list[PurePosixPath]]) -> str:
    last = (_folded(_parts(name)) or ("",))[-1]
    same_stem = [known for known in by_last_part if PurePosixPath(known).stem == PurePosixPath(last).stem]
    close = same_stem or get_close_matches(last, by_last_part, n=1)
    return f"the nearest is {by_last_part[close[0]][0]}" if close else "nothing there has a name like it"

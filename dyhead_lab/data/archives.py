"""Fetch a large file over an unreliable line, and unpack it without writing anywhere else."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import time
import urllib.error
import urllib.request
import zipfile
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from tqdm import tqdm

from ..errors import UserError

_CHUNK = 1 << 20

#: What a dropped or silent line raises.
_LINE_ERRORS = (OSError, HTTPException)


def fetch(url: str, target: Path, size: int, md5: str, attempts: int = 5, wait: float = 2.0) -> None:
    """Download a file. A part that an earlier run or a dropped line left behind is continued.

    The part is named as ``target`` with ``.part`` added. It becomes ``target`` only when its size and md5 are
    right; a part with wrong bytes is deleted.

    Args:
        url: where the file is.
        target: where it goes. Nothing is done if it is there already.
        size: its length in bytes.
        md5: its checksum in hexadecimal digits.
        attempts: how often in a row the line may bring nothing before this gives up.
        wait: seconds before the second attempt; they double with each further one.

    Raises:
        UserError: the server has no such file, has one of another length, sends wrong bytes, or stays silent.
    """
    if target.exists():
        return
    part = target.with_name(target.name + ".part")
    if part.exists() and part.stat().st_size > size:
        part.unlink()
    _download(url, part, size, attempts, wait)
    found = _md5(part)
    if found != md5:
        part.unlink()
        raise UserError(f"{url} has md5 {found}, expected {md5}: wrong bytes, deleted; run the command again")
    os.replace(part, target)


def _download(url: str, part: Path, size: int, attempts: int, wait: float) -> None:
    """Append to ``part`` until it holds ``size`` bytes."""
    failures = 0
    part.touch()
    with tqdm(total=size, unit="B", unit_scale=True, unit_divisor=1024, desc=part.stem) as bar:
        while (start := part.stat().st_size) < size:
            error: Exception | None = None
            try:
                _continue(url, part, size, bar)
            except urllib.error.HTTPError as refusal:
                if 400 <= refusal.code < 500:
                    raise UserError(f"{url}: the server says {refusal.code} {refusal.reason}") from refusal
                error = refusal
            except _LINE_ERRORS as dropped:
                error = dropped
            failures = 0 if part.stat().st_size > start else failures + 1
            if failures == attempts:
                raise UserError(
                    f"{url}: no data in {attempts} attempts ({error or 'the line closes early'}); "
                    f"{start} of {size} bytes are kept, run the command again to continue"
                )
            if failures:
                time.sleep(wait * 2 ** (failures - 1))


def _continue(url: str, part: Path, size: int, bar: tqdm) -> None:
    """One request: append what it brings. A server that cannot continue sends everything; then start anew."""
    start = part.stat().st_size
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    with urllib.request.urlopen(request, timeout=60) as response:
        start, stated = _first_byte_and_length(response, start)
        if stated not in (None, size):
            raise UserError(f"{url} has {stated} bytes, expected {size}: this is another file")
        with part.open("r+b") as file:
            file.truncate(start)
            file.seek(start)
            bar.update(start - bar.n)
            while chunk := response.read(min(_CHUNK, size - file.tell())):
                file.write(chunk)
                bar.update(len(chunk))


def _first_byte_and_length(response: HTTPResponse, asked: int) -> tuple[int, int | None]:
    """Where in the file the response begins, and the length of the file if the server states it."""
    if response.status != 206:  # the whole file, though a part may have been asked for
        length = response.headers.get("Content-Length")
        return 0, None if length is None else int(length)
    stated = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", stated)
    if match is None or int(match[1]) != asked:
        raise OSError(f"asked for bytes from {asked}, got Content-Range {stated!r}")
    return asked, None if match[2] == "*" else int(match[2])


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with (
        path.open("rb") as file,
        tqdm(total=path.stat().st_size, unit="B", unit_scale=True, unit_divisor=1024, desc="check") as bar,
    ):
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


def unpack(archive: Path, folder: Path) -> list[Path]:
    """Unpack a zip file; existing files of the same names are replaced.

    Every name is checked before the first byte is written: nothing may leave ``folder``, be it by an absolute
    name, by ``..``, or through a symbolic link that is in the archive or already on the disk. The zip's own
    checksums are checked while unpacking.

    Returns:
        The files, relative to ``folder``.

    Raises:
        UserError: the archive is broken, an entry would leave ``folder``, or the disk has too little room.
    """
    root = folder.resolve()
    try:
        with zipfile.ZipFile(archive) as file:
            entries = [entry for entry in file.infolist() if not entry.is_dir()]
            for entry in entries:
                _check_entry(archive, entry, root)
            check_disk(folder, sum(entry.file_size for entry in entries))
            for entry in tqdm(entries, desc=f"unpack {archive.name}", unit="file"):
                target = root / entry.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with file.open(entry) as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink, _CHUNK)
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise UserError(f"cannot unpack {archive}: {error}") from error
    return [Path(entry.filename) for entry in entries]


def _check_entry(archive: Path, entry: zipfile.ZipInfo, root: Path) -> None:
    is_link = stat.S_ISLNK(entry.external_attr >> 16)
    if is_link or not (root / entry.filename).resolve().is_relative_to(root):
        kind = "is a symbolic link" if is_link else f"would leave {root}"
        raise UserError(f"{archive}: refused, its entry {entry.filename!r} {kind}")


def check_disk(folder: Path, needed: int) -> None:
    """Refuse to begin what the disk cannot hold.

    Args:
        folder: an existing folder on the disk.
        needed: bytes.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(f"{folder} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB are needed")

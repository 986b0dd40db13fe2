"""COCO 2017, downloaded and unpacked into COCO's own layout."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from .archives import check_disk, fetch, unpack


class Archive(NamedTuple):
    """A zip file on the server."""

    path: str  #: relative to the base address
    size: int  #: bytes
    md5: str
    unpacked: int  #: bytes that its files take, rounded up; for the check of the disk only


BASE_URL = "http://images.cocodataset.org"

#: What there is, small before large. The server publishes no checksums. These md5 sums stand alike in
#: PaddleDetection (ppdet/utils/download.py, commit 005e0ff) and in MLCommons' training benchmark
#: (single_stage_detector/scripts/download_coco2017.sh, commit 52b7253).
ARCHIVES: dict[str, Archive] = {
    "annotations": Archive(
        "annotations/annotations_trainval2017.zip",
        252_907_541,
        "f4bbac642086de4f52a3fdda2de5fa2c",
        900_000_000,
    ),
    "val": Archive("zips/val2017.zip", 815_585_330, "442b8da7639aecaf257c1dceb8ba8c80", 830_000_000),
    "train": Archive("zips/train2017.zip", 19_336_861_798, "cced6f7f71b7629ddf16f17bbcfab6b2", 19_600_000_000),
}


def download_coco(
    out: str | os.PathLike[str],
    parts: Iterable[str] = tuple(ARCHIVES),
    base_url: str = BASE_URL,
    archives: Mapping[str, Archive] = ARCHIVES,
) -> list[str]:
    """Download and unpack what is not there yet. An interrupted run is continued by the next.

    Each archive is deleted once it is unpacked. ``out/downloaded.json`` notes what was unpacked; an archive
    whose files are all still there is not fetched again.

    Args:
        out: becomes a folder that :func:`dyhead_lab.data.coco.coco_folder` opens.
        parts: names out of ``archives``.
        base_url: the server, for a mirror.
        archives: what the server has.

    Returns:
        The names of the parts that were not there yet.

    Raises:
        UserError: the disk is too small, the server does not deliver, or an archive is unsafe or broken.
    """
    parts = list(parts)
    if unknown := set(parts) - set(archives):
        raise UserError(f"unknown part {', '.join(sorted(unknown))}; there are {', '.join(archives)}")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    missing = [name for name in archives if name in parts and not _is_complete(out, name)]
    check_disk(out, _peak_bytes(out, [archives[name] for name in missing]))
    for name in missing:
        archive = archives[name]
        local = _local(out, archive)
        fetch(f"{base_url.rstrip('/')}/{archive.path}", local, archive.size, archive.md5)
        files = unpack(local, out)
        _note(out, name, {str(file): (out / file).stat().st_size for file in files})
        local.unlink()
    return missing


def _local(out: Path, archive: Archive) -> Path:
    return out / Path(archive.path).name


def _peak_bytes(out: Path, archives: list[Archive]) -> int:
    """The most that the disk must still take: each archive is deleted before the next is fetched."""
    peak = used = 0
    for archive in archives:
        local = _local(out, archive)
        here = sum(p.stat().st_size for p in (local, local.with_name(local.name + ".part")) if p.exists())
        peak = max(peak, used + archive.size - here + archive.unpacked)
        used += archive.unpacked - here
    return peak


def _notes(out: Path) -> dict[str, dict[str, int]]:
    """For each unpacked part its files and their lengths."""
    try:
        return json.loads((out / "downloaded.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def _note(out: Path, name: str, lengths: dict[str, int]) -> None:
    draft = out / "downloaded.json.part"
    draft.write_text(json.dumps({**_notes(out), name: lengths}), encoding="utf-8")
    os.replace(draft, out / "downloaded.json")


def _is_complete(out: Path, name: str) -> bool:
    lengths = _notes(out).get(name)
    if lengths is None:
        return False
    paths = {out / file: length for file, length in lengths.items()}
    return all(path.is_file() and path.stat().st_size == length for path, length in paths.items())

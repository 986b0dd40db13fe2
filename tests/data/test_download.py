"""``dyhead-lab data coco`` against a small COCO on a server of this machine."""

import hashlib
import io
import json
import zipfile
from itertools import repeat
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from dyhead_lab.cli import main
from dyhead_lab.data.coco import coco_folder
from dyhead_lab.data.download import ARCHIVES, Archive, download_coco
from dyhead_lab.errors import UserError

from .coco_files import coco_dict
from .flaky_server import serve


def zipped(entries):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return buffer.getvalue()


def png():
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(buffer, "png")
    return buffer.getvalue()


CONTENTS = {
    "annotations": zipped({f"annotations/instances_{s}2017.json": json.dumps(coco_dict([])) for s in ("train", "val")}),
    "val": zipped({"val2017/1.png": png()}),
    "train": zipped({"train2017/1.png": png()}),
}
SMALL = {
    name: Archive(ARCHIVES[name].path, len(content), hashlib.md5(content).hexdigest(), len(content))
    for name, content in CONTENTS.items()
}


@pytest.fixture
def server():
    with serve() as server:
        server.files = {ARCHIVES[name].path: content for name, content in CONTENTS.items()}
        yield server


def test_a_folder_that_the_data_room_opens(server, tmp_path):
    server.drop_after = repeat(100)
    assert download_coco(tmp_path, base_url=server.url, archives=SMALL) == ["annotations", "val", "train"]
    for split in ("train", "val"):
        assert coco_folder(tmp_path, split)[0][0].shape == (3, 30, 40)
    assert not list(tmp_path.glob("*.zip*"))


def test_what_is_complete_is_skipped_and_what_is_missing_is_fetched(server, tmp_path):
    assert download_coco(tmp_path, ["val"], server.url, SMALL) == ["val"]
    server.requests.clear()
    assert download_coco(tmp_path, ["val"], server.url, SMALL) == [] and server.requests == []
    assert download_coco(tmp_path, ["annotations", "val"], server.url, SMALL) == ["annotations"]
    (tmp_path / "val2017/1.png").unlink()
    assert download_coco(tmp_path, ["annotations", "val"], server.url, SMALL) == ["val"]
    (tmp_path / "val2017/1.png").write_bytes(b"cut")
    assert download_coco(tmp_path, ["val"], server.url, SMALL) == ["val"]
    assert (tmp_path / "val2017/1.png").read_bytes() == png()


def test_an_archive_that_was_fetched_but_not_unpacked_is_not_fetched_again(server, tmp_path):
    (tmp_path / "val2017.zip").write_bytes(CONTENTS["val"])
    assert download_coco(tmp_path, ["val"], server.url, SMALL) == ["val"]
    assert server.requests == [] and (tmp_path / "val2017/1.png").exists()


def test_wrong_bytes_leave_nothing_behind(server, tmp_path):
    server.files[SMALL["val"].path] = bytes(len(CONTENTS["val"]))
    with pytest.raises(UserError, match=r"val2017\.zip has md5"):
        download_coco(tmp_path, ["val"], server.url, SMALL)
    assert list(tmp_path.iterdir()) == []


def test_the_disk_is_checked_before_anything_is_fetched(server, tmp_path, monkeypatch):
    (a, v), free = [len(CONTENTS[name]) for name in ("annotations", "val")], 0
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=free))
    # annotations are unpacked and their zip is gone when the images come: a + (v + v), or a + a before that
    free = max(2 * a, a + 2 * v) - 1
    with pytest.raises(UserError, match="GB are needed"):
        download_coco(tmp_path, ["annotations", "val"], server.url, SMALL)
    assert server.requests == []
    free += 1
    download_coco(tmp_path, ["annotations", "val"], server.url, SMALL)


def test_unknown_parts_are_named(tmp_path):
    with pytest.raises(UserError, match="unknown part test; there are annotations, val, train"):
        download_coco(tmp_path, ["test"])


def test_the_command(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("dyhead_lab.commands.data.ARCHIVES", SMALL)
    arguments = ["data", "coco", "--out", str(tmp_path), "--url", server.url, "--parts", "annotations", "val"]
    assert main(arguments) == 0
    assert "val downloaded" in capsys.readouterr().out
    assert main(arguments) == 0
    assert "val was complete" in capsys.readouterr().out

"""Downloads survive a bad line and refuse wrong bytes; archives write nothing outside their folder."""

import hashlib
import os
import stat
import zipfile
from itertools import repeat
from types import SimpleNamespace

import pytest

from dyhead_lab.data.archives import check_disk, fetch, unpack
from dyhead_lab.errors import UserError

from .flaky_server import serve

CONTENT = bytes(range(256)) * 40
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def server():
    with serve() as server:
        server.files["big.zip"] = CONTENT
        yield server


def get(server, target, **options):
    options = {"size": len(CONTENT), "md5": MD5, "wait": 0, **options}
    fetch(f"{server.url}/big.zip", target, **options)


def test_a_good_line(server, tmp_path):
    get(server, tmp_path / "big.zip")
    assert (tmp_path / "big.zip").read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ["big.zip"] and server.requests == [("big.zip", None)]
    get(server, tmp_path / "big.zip")
    assert len(server.requests) == 1  # what is there is not fetched again


def test_dropped_connections_are_continued_where_they_stopped(server, tmp_path):
    server.drop_after = repeat(3000)
    get(server, tmp_path / "big.zip")
    assert (tmp_path / "big.zip").read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, "bytes=3000-", "bytes=6000-", "bytes=9000-"]


def test_the_part_of_an_interrupted_run_is_continued(server, tmp_path):
    (tmp_path / "big.zip.part").write_bytes(CONTENT[:5000])
    get(server, tmp_path / "big.zip")
    assert (tmp_path / "big.zip").read_bytes() == CONTENT
    assert server.requests == [("big.zip", "bytes=5000-")]


def test_a_whole_part_is_only_checked(server, tmp_path):
    (tmp_path / "big.zip.part").write_bytes(CONTENT)
    get(server, tmp_path / "big.zip")
    assert server.requests == [] and (tmp_path / "big.zip").exists()


def test_a_server_without_ranges_starts_anew(server, tmp_path):
    server.ranges = False
    (tmp_path / "big.zip.part").write_bytes(b"x" * 5000)
    get(server, tmp_path / "big.zip")
    assert (tmp_path / "big.zip").read_bytes() == CONTENT


def test_starting_anew_keeps_nothing_of_the_old_part(server, tmp_path):
    server.ranges, server.drop_after = False, repeat(3000)
    (tmp_path / "big.zip.part").write_bytes(b"x" * 5000)
    with pytest.raises(UserError, match="closes early"):
        get(server, tmp_path / "big.zip", attempts=2)
    assert (tmp_path / "big.zip.part").read_bytes() == CONTENT[:3000]


def test_only_attempts_in_a_row_are_counted(server, tmp_path):
    server.drop_after = iter([0, 3000, 0, 3000, 0, None])
    get(server, tmp_path / "big.zip", attempts=2)
    assert len(server.requests) == 6 and (tmp_path / "big.zip").read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_thrown_away(server, tmp_path):
    (tmp_path / "big.zip.part").write_bytes(CONTENT + b"x")
    get(server, tmp_path / "big.zip")
    assert (tmp_path / "big.zip").read_bytes() == CONTENT


def test_wrong_bytes_are_refused_and_deleted(server, tmp_path):
    server.files["big.zip"] = CONTENT[:-1] + b"x"
    with pytest.raises(UserError, match=rf"big\.zip has md5 .*expected {MD5}"):
        get(server, tmp_path / "big.zip")
    assert os.listdir(tmp_path) == []
    server.files["big.zip"] = CONTENT
    get(server, tmp_path / "big.zip")
    assert (tmp_path / "big.zip").exists()


def test_a_wrong_part_is_refused_and_deleted(server, tmp_path):
    (tmp_path / "big.zip.part").write_bytes(b"x" * 5000)
    with pytest.raises(UserError, match="md5"):
        get(server, tmp_path / "big.zip")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("part", [0, 100])
def test_a_file_of_another_length_is_refused_before_it_is_fetched(server, tmp_path, part):
    (tmp_path / "big.zip.part").write_bytes(CONTENT[:part])
    server.files["big.zip"] = CONTENT + b"more"
    with pytest.raises(UserError, match=f"{len(CONTENT) + 4} bytes, expected {len(CONTENT)}"):
        get(server, tmp_path / "big.zip")
    assert (tmp_path / "big.zip.part").stat().st_size == part


def test_a_silent_line_gives_up_and_keeps_its_part(server, tmp_path):
    (tmp_path / "big.zip.part").write_bytes(CONTENT[:5000])
    server.drop_after = repeat(0)
    with pytest.raises(UserError, match=r"no data in 3 attempts.*5000 of 10240 bytes are kept"):
        get(server, tmp_path / "big.zip", attempts=3)
    assert len(server.requests) == 3 and (tmp_path / "big.zip.part").stat().st_size == 5000


def test_a_refusal_is_told_at_once_and_a_fault_of_the_server_is_tried_again(server, tmp_path):
    server.status = 403
    with pytest.raises(UserError, match="403"):
        get(server, tmp_path / "big.zip")
    assert len(server.requests) == 1
    server.status = 503
    with pytest.raises(UserError, match="503"):
        get(server, tmp_path / "big.zip", attempts=2)
    assert len(server.requests) == 3


def test_nobody_listening_is_told(tmp_path):
    with serve() as server:
        pass
    with pytest.raises(UserError, match="no data in 1 attempts"):
        get(server, tmp_path / "big.zip", attempts=1)


def write_zip(path, entries):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return path


def test_unpacking(tmp_path):
    archive = write_zip(tmp_path / "a.zip", {"x/": "", "x/a.txt": "new", "x/y/b.txt": "b"})
    (tmp_path / "out/x").mkdir(parents=True)
    (tmp_path / "out/x/a.txt").write_text("old and longer", encoding="utf-8")
    assert list(map(str, unpack(archive, tmp_path / "out"))) == ["x/a.txt", "x/y/b.txt"]
    assert (tmp_path / "out/x/a.txt").read_text(encoding="utf-8") == "new"
    assert (tmp_path / "out/x/y/b.txt").read_text(encoding="utf-8") == "b"


@pytest.mark.parametrize("name", ["../evil.txt", "x/../../evil.txt", "{tmp_path}/evil.txt"])
def test_nothing_leaves_the_folder(tmp_path, name):
    archive = write_zip(tmp_path / "a.zip", {"good.txt": "g", name.format(tmp_path=tmp_path): "evil"})
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="would leave"):
        unpack(archive, tmp_path / "out")
    assert os.listdir(tmp_path / "out") == [] and sorted(os.listdir(tmp_path)) == ["a.zip", "out"]


def test_symbolic_links_are_refused(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive = write_zip(tmp_path / "a.zip", {link: "/etc"})
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="'link' is a symbolic link"):
        unpack(archive, tmp_path / "out")


def test_a_link_that_lies_in_the_folder_is_not_followed_out_of_it(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out/x").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="would leave"):
        unpack(write_zip(tmp_path / "a.zip", {"x/a.txt": "a"}), tmp_path / "out")
    assert os.listdir(tmp_path / "elsewhere") == []


def test_broken_archives_are_named(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"no zip")
    with pytest.raises(UserError, match=r"cannot unpack .*a\.zip"):
        unpack(tmp_path / "a.zip", tmp_path)
    archive = write_zip(tmp_path / "b.zip", {"a.txt": "content" * 10})
    archive.write_bytes(archive.read_bytes().replace(b"content", b"CONTENT", 1))
    with pytest.raises(UserError, match=r"b\.zip: Bad CRC"):
        unpack(archive, tmp_path)


def test_the_disk_is_checked_first(tmp_path, monkeypatch):
    check_disk(tmp_path, 1)
    with pytest.raises(UserError, match="GB are needed"):
        check_disk(tmp_path, 10**18)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=5))
    with pytest.raises(UserError, match="free"):
        unpack(write_zip(tmp_path / "a.zip", {"a.txt": "123456"}), tmp_path)
    assert not (tmp_path / "a.txt").exists()

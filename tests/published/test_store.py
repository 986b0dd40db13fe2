"""Published weights come here whole or not at all, whatever the line, the server or the disk does."""

import dataclasses
import hashlib
import io
import json
import os
import subprocess
import sys
from itertools import repeat

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save as safetensors

from dyhead_lab.errors import UserError
from dyhead_lab.published import store
from dyhead_lab.published.catalogue import CATALOGUE

from ..data.flaky_server import serve

PLACE = "/{repo_id}/resolve/{revision}/{filename}"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = safetensors({"weight": torch.arange(500.0)})


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A hub and a host of files, and empty caches."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    with serve() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)  # what HF_ENDPOINT sets before the import
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{running.url}{PLACE}")
        running.headers["X-Repo-Commit"] = COMMIT
        yield running


# Repositories of the hub


def publish(server, **files):
    for name, content in files.items():
        server.files[f"owner/detector/resolve/main/{name}"] = content


def test_a_repository_is_fetched_once_and_found_again_offline(server, monkeypatch):
    publish(server, **{"config.json": b"{}", "preprocessor_config.json": b"{}", "model.safetensors": WEIGHTS})
    assert store.here("hf:owner/detector") is None
    path = store.get("hf:owner/detector")
    assert path.read_bytes() == WEIGHTS and {p.name for p in path.parent.iterdir()} == {
        "config.json",
        "preprocessor_config.json",
        "model.safetensors",
    }
    asked = len(server.requests)
    assert store.here("hf:owner/detector") == path and len(server.requests) == asked
    server.status = 500
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert store.get("hf:owner/detector") == path and len(server.requests) == asked


def test_a_revision_can_be_pinned(server):
    """A commit, once it is here, stays what it is, whatever the repository holds today."""
    publish(server, **{"config.json": b"{}", "preprocessor_config.json": b"{}", "model.safetensors": b"of today"})
    for name, content in {"config.json": b"{}", "model.safetensors": WEIGHTS}.items():
        server.files[f"owner/detector/resolve/{COMMIT}/{name}"] = content
    name = f"hf:owner/detector@{COMMIT}"
    path = store.get(name)
    assert path.read_bytes() == WEIGHTS and path == store.here(name) and COMMIT in str(path)
    asked = {place for place in server.requests if "resolve" in str(place)}
    assert asked and all(COMMIT in str(place) for place in asked)
    with pytest.raises(UserError, match="expected a commit, a tag or a branch after @"):
        store.get("hf:owner/detector@")


def test_a_revision_that_there_is_not_is_named(server):
    server.status = 404
    server.headers["X-Error-Code"] = "RevisionNotFound"
    with pytest.raises(UserError, match="owner/detector has no revision v9 on the hub"):
        store.get("hf:owner/detector@v9")


def test_a_repository_that_there_is_not_gets_the_nearest_names(server):
    server.status = 404
    server.headers["X-Error-Code"] = "RepoNotFound"
    with pytest.raises(UserError, match=r"Nearest names: .*SenseTime/deformable-detr"):
        store.get("hf:SenseTim/deformable-detr")


def test_safetensors_are_preferred_and_a_repository_without_them_gives_its_other_file(server):
    publish(server, **{"config.json": b"{}", "pytorch_model.bin": WEIGHTS})
    assert store.get("hf:owner/detector").name == "pytorch_model.bin"
    publish(server, **{"model.safetensors": WEIGHTS})
    assert store.get("hf:owner/detector").name == "model.safetensors"


def test_weights_in_several_files_come_together(server):
    names = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    index = json.dumps({"weight_map": dict(zip("ab", names, strict=True))}).encode()
    publish(server, **{"config.json": b"{}", "model.safetensors.index.json": index, **dict.fromkeys(names, WEIGHTS)})
    path = store.get("hf:owner/detector")
    assert path.name.endswith(".index.json") and all((path.parent / name).is_file() for name in names)


def test_a_cut_connection_leaves_nothing_that_looks_like_weights(server):
    publish(server, **{"config.json": b"{}", "model.safetensors": WEIGHTS})
    server.drop_after = iter([None, *[100] * 20])
    with pytest.raises(UserError, match="owner/detector"):
        store.get("hf:owner/detector")
    assert store.here("hf:owner/detector") is None


@pytest.mark.parametrize(
    "status, words",
    [(404, "no public repository"), (401, "no public repository"), (409, r"refuses it \(status 409\)")],
)
def test_what_the_hub_refuses_is_said_with_its_status(server, status, words):
    server.status = status
    if status != 409:
        server.headers["X-Error-Code"] = "RepoNotFound"
    with pytest.raises(UserError, match=words):
        store.get("hf:owner/detector")


def test_a_repository_without_weights_says_what_is_missing(server):
    publish(server, **{"config.json": b"{}"})
    server.headers["X-Error-Code"] = "EntryNotFound"
    with pytest.raises(UserError, match=r"holds no config\.json, or none of model\.safetensors"):
        store.get("hf:owner/detector")


def test_offline_says_so(server, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="not in the cache of this machine, and HF_HUB_OFFLINE is set"):
        store.get("hf:owner/detector")


def test_a_name_that_no_repository_can_have_is_named(server):
    with pytest.raises(UserError, match="no public repository a/b/c"):
        store.get("hf:a/b/c")


# Single files


@pytest.fixture
def file(server, monkeypatch):
    """Weights whose name ends as their SHA-256 begins; returns (name, content)."""
    buffer = io.BytesIO()
    torch.save({"model": {"weight": torch.arange(500.0)}}, buffer)
    content = buffer.getvalue()
    url = f"{server.url}/mine-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    monkeypatch.setitem(CATALOGUE, "mine", dataclasses.replace(CATALOGUE["detr-r50"], name="mine", url=url))
    server.files[url.removeprefix(f"{server.url}/")] = content
    return "mine", content


def kept(tmp_path):
    folder = tmp_path / "torch" / "checkpoints"
    return sorted(os.listdir(folder)) if folder.exists() else []


def test_a_file_is_fetched_once(server, file, tmp_path):
    name, content = file
    assert store.here(name) is None
    path = store.get(name)
    assert path.read_bytes() == content and store.here(name) == path and store.get(name) == path
    assert len(server.requests) == 1 and kept(tmp_path) == [path.name]


def test_wrong_bytes_are_refused_and_leave_nothing(server, file, tmp_path):
    [address] = server.files
    server.files[address] = file[1][:-1] + b"x"
    with pytest.raises(UserError, match=r"is not what was published .*invalid hash"):
        store.get("mine")
    assert kept(tmp_path) == []


def test_a_cut_connection_is_refused_and_leaves_nothing(server, file, tmp_path):
    server.drop_after = repeat(1000)
    with pytest.raises(UserError, match="is not what was published"):
        store.get("mine")
    assert kept(tmp_path) == []


def test_a_page_in_the_place_of_weights_without_a_checksum_is_refused(server, tmp_path, monkeypatch):
    url = f"{server.url}/sparse_detr.pth"
    monkeypatch.setitem(CATALOGUE, "mine", dataclasses.replace(CATALOGUE["detr-r50"], name="mine", url=url))
    server.files["sparse_detr.pth"] = b"<html>moved</html>"
    with pytest.raises(UserError, match=r"is not what was published .*a web page"):
        store.get("mine")
    assert kept(tmp_path) == []


@pytest.mark.parametrize("status", [401, 404, 409])
def test_what_a_host_answers_is_said(server, file, status, tmp_path):
    server.status = status
    with pytest.raises(UserError, match=f"mine: .* answers {status}"):
        store.get("mine")
    assert kept(tmp_path) == []


def test_a_host_that_is_not_there_is_named(file, monkeypatch):
    gone = dataclasses.replace(CATALOGUE["mine"], url="http://127.0.0.1:9/mine-0a1b2c3d.pth")
    monkeypatch.setitem(CATALOGUE, "mine", gone)
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9.* cannot be reached"):
        store.get("mine")


def test_no_room_is_said_and_leaves_nothing(file, monkeypatch, tmp_path):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch.hub, "download_url_to_file", full)
    with pytest.raises(UserError, match=r"mine cannot be kept in .*No space left on device"):
        store.get("mine")
    assert kept(tmp_path) == []


def test_a_cache_that_may_not_be_written_is_named(file, tmp_path, monkeypatch):
    (tmp_path / "occupied").write_text("a file where the cache should be", encoding="utf-8")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "occupied"))
    with pytest.raises(UserError, match=r"mine cannot be kept in .*occupied"):
        store.get("mine")


def test_weights_that_no_program_can_fetch_say_why(server):
    with pytest.raises(UserError, match="dyhead-atss-r50-official cannot be fetched: its host answers 409"):
        store.get("dyhead-atss-r50-official")
    assert store.here("dyhead-atss-r50-official") is None and server.requests == []


@pytest.mark.parametrize("variable", ["", "TORCH_HOME", "XDG_CACHE_HOME"])
def test_the_folder_of_torch_hub_is_known_without_torch(variable, tmp_path):
    code = (
        "import sys\nfrom dyhead_lab.published.store import _torch_hub\n"
        "folder = _torch_hub()\nassert 'torch' not in sys.modules\nimport torch.hub\n"
        "print(folder)\nassert str(folder) == torch.hub.get_dir() == str(_torch_hub())"
    )
    kept = {name: value for name, value in os.environ.items() if name not in ("TORCH_HOME", "XDG_CACHE_HOME")}
    environment = kept | ({variable: str(tmp_path)} if variable else {})
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.startswith(str(tmp_path)) == bool(variable)

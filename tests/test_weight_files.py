"""Files of weights: plain data beside tensors is read, nothing else; what is no such file is called by its name."""

import argparse
import gzip
import pickle
import types
import warnings
from pathlib import Path, PurePosixPath, PureWindowsPath
from random import Random

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dyhead_lab.errors import UserError
from dyhead_lab.weight_files import read_weight_file, warn_if_not_finite, without_wrappers


class Foreign:
    """A class that is no plain data."""


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('the file ran code')",))


#: What training programs put beside their tensors.
PLAIN = {
    "best": np.float64(0.5),
    "epoch": np.int64(3),
    "done": np.bool_(True),
    "names": np.array(["disc", "star"]),
    "args": argparse.Namespace(lr=0.1),
    "settings": types.SimpleNamespace(lr=0.1),
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip archive", "as before PyTorch 1.6"])
def test_plain_data_beside_tensors_is_read(tmp_path, zipped):
    weights = {"w": torch.arange(3.0)}
    contents = {**PLAIN, "history": np.arange(6.0).reshape(2, 3), "model": weights}
    torch.save(contents, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    found = read_weight_file(tmp_path / "w.pt")
    assert {name: found[name] for name in PLAIN if name != "names"} == {
        name: value for name, value in PLAIN.items() if name != "names"
    }
    assert isinstance(found["best"], np.float64) and found["names"].tolist() == ["disc", "star"]
    assert np.array_equal(found["history"], contents["history"])
    assert torch.equal(found["model"]["w"], weights["w"])


def test_paths_of_either_system_come_back_as_pure_paths(tmp_path):
    torch.save({"out": Path("runs/a"), "data": PureWindowsPath("c:/data")}, tmp_path / "w.pt")
    assert read_weight_file(tmp_path / "w.pt") == {
        "out": PurePosixPath("runs/a") if isinstance(Path(), PurePosixPath) else PureWindowsPath("runs/a"),
        "data": PureWindowsPath("c:/data"),
    }


@pytest.mark.parametrize(
    ("thing", "name"),
    [
        (Foreign(), r"Foreign"),
        (Trap(), "exec"),
        (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
        (np.array([{}], dtype=object), "numpy.dtypes.ObjectDType"),
        ([print], "print"),
    ],
    ids=["a class", "code", "a module", "an array of objects", "a function"],
)
def test_anything_else_is_refused_and_never_run(tmp_path, thing, name):
    torch.save({"w": torch.zeros(1), "more": thing}, tmp_path / "w.pt")
    with pytest.raises(
        UserError, match=rf"w\.pt cannot be read safely: it holds [\w.]*{name}, a Python object"
    ) as refused:
        read_weight_file(tmp_path / "w.pt")
    assert "\n" not in str(refused.value)


def damaged(path: Path, kind: str) -> None:
    """Write a file that is no file of weights, in one of the ways that happen."""
    if "safetensors" in kind:
        save_file({"w": torch.zeros(500)}, path)
    elif kind == "cut torch archive":
        torch.save({"w": torch.zeros(500)}, path)
    elif kind == "cut old torch file":
        torch.save({"w": torch.zeros(500)}, path, _use_new_zipfile_serialization=False)
    elif kind == "TorchScript":
        torch.jit.script(torch.nn.ReLU()).save(path)
    elif kind == "npz":
        with open(path, "wb") as file:
            np.savez(file, w=np.zeros(3))
    if kind.startswith("cut"):
        path.write_bytes(path.read_bytes()[:700])
    contents = {
        "web page": b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>",
        "other web page": b"<html>404</html>",
        "empty": b"",
        "text": b"not found",
        "LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:12ab\nsize 5\n",
        "JSON": b'{"model_type": "detr"}',
        "pickle": pickle.dumps({"model": {"w": np.zeros(3)}}),
        "gzip": gzip.compress(b"weights"),
        "noise": bytes(range(256)),
    }
    if kind in contents:
        path.write_bytes(contents[kind])


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("web page", "is a web page"),
        ("other web page", "is a web page"),
        ("empty", "is empty"),
        ("text", "is a text file"),
        ("LFS pointer", "is a Git LFS pointer, .* git lfs pull"),
        ("JSON", "is a JSON text"),
        ("pickle", "is a Python pickle that torch.save did not write"),
        ("gzip", "is a gzip archive"),
        ("npz", "is a zip archive that torch.save did not write"),
        ("TorchScript", "is a TorchScript archive"),
        ("noise", "is in no format known here"),
        ("cut torch archive", "is cut short"),
        ("cut old torch file", "is damaged"),
        ("cut safetensors", "is a damaged safetensors file"),
    ],
)
def test_another_file_is_called_by_its_name_whatever_its_suffix(tmp_path, kind, message, suffix):
    path = tmp_path / f"w{suffix}"
    damaged(path, kind)
    with pytest.raises(UserError, match=rf"w\{suffix} {message}.*\(expected a checkpoint\)$") as refused:
        read_weight_file(path, "a checkpoint")
    assert "\n" not in str(refused.value)


def test_bytes_tell_the_format_not_the_name(tmp_path):
    save_file({"w": torch.ones(2)}, tmp_path / "w.bin")
    torch.save({"w": torch.ones(2)}, tmp_path / "w.safetensors")
    for name in ("w.bin", "w.safetensors"):
        assert torch.equal(read_weight_file(tmp_path / name)["w"], torch.ones(2))


@pytest.mark.parametrize("first", [0x80, 0x50, 0x78, 0x20])
def test_a_header_of_any_length_is_one_of_safetensors(tmp_path, first):
    """The length comes first, and its bytes may be those that other formats begin with: 0x80 a pickle, 0x50 a zip."""
    for letters in range(1, 400):
        save_file({"w" * letters: torch.ones(2)}, tmp_path / "w.safetensors")
        if (tmp_path / "w.safetensors").read_bytes()[0] == first:
            break
    else:
        raise AssertionError("no header of such a length")
    assert list(read_weight_file(tmp_path / "w.safetensors")) == ["w" * letters]


def test_what_is_no_file_is_said(tmp_path):
    with pytest.raises(UserError, match=r"no such file"):
        read_weight_file(tmp_path / "missing.pt")
    with pytest.raises(UserError, match=r"is a folder"):
        read_weight_file(tmp_path)


def test_wrappers_leave_no_trace_in_names():
    names = ["module.a.bias", "module.module.a.weight", "backbone._orig_mod.b", "a.module.c"]
    assert list(without_wrappers(dict.fromkeys(names))) == ["a.bias", "a.weight", "backbone.b", "a.module.c"]


def test_weights_that_are_not_finite_are_named_once():
    state = {f"layer{i}": torch.tensor([1.0, float("nan")]) for i in range(5)}
    state |= {"count": torch.tensor(3), "good": torch.ones(2), "infinite": torch.tensor(float("inf"))}
    with pytest.warns(UserWarning, match=r"^w.pt: .* NaN or infinite in layer0, layer1, layer2 and 3 more") as warned:
        warn_if_not_finite(state, "w.pt")
    assert len(warned) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_not_finite({"count": torch.tensor(3), "good": torch.ones(2)}, "w.pt")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", ["safetensors", "torch archive", "old torch file"])
def test_whatever_bytes_are_damaged_the_file_is_refused_in_one_line_or_read(tmp_path, kind):
    path = tmp_path / "w"
    if kind == "safetensors":
        save_file({"a": torch.zeros(30), "b": torch.ones(4, 4)}, path)
    else:
        torch.save({"a": torch.zeros(30), "x": np.float64(1)}, path, _use_new_zipfile_serialization=kind[0] == "t")
    whole, random = path.read_bytes(), Random(0)
    refused = 0
    for _ in range(200):
        damaged = bytearray(whole)
        if random.random() < 0.5:
            del damaged[random.randrange(len(damaged)) :]
        else:
            for _ in range(random.choice([1, 3, 10])):
                damaged[random.randrange(len(damaged))] = random.randrange(256)
        path.write_bytes(damaged)
        try:
            read_weight_file(path)
        except UserError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 50  # a byte of a tensor can be any other

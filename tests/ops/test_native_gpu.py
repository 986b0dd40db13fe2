"""A library that does not fit the GPU is told before its first launch. The GPUs here are simulated."""

import json
from types import SimpleNamespace

import pytest
import torch

from dyhead_lab.ops import backends, native

NAMES = {(7, 0): "V100", (7, 5): "T4", (9, 0): "H100", (13, 0): "a card of tomorrow"}
HELD = ["sm_75", "sm_80", "sm_90", "compute_80", "compute_90"]


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """Call it with compute capabilities, one for each GPU, and what CUDA says against an empty kernel on them."""

    def simulate(*capabilities, held=HELD, problem=None):
        probed = []

        def probe(device):
            probed.append(device)
            return problem

        (tmp_path / "libdyhead_cuda.so").touch()
        status = {"cuda": {} if held is None else {"architectures": held}}
        (tmp_path / "status.json").write_text(json.dumps(status), encoding="utf-8")
        monkeypatch.setattr(native, "FOLDER", tmp_path)
        monkeypatch.setattr(native, "_why_not_loaded", lambda name: None)
        monkeypatch.setattr(native, "_emulator_build", lambda: "cuda")  # any library that is there
        monkeypatch.setattr(native.ctypes, "CDLL", lambda path: SimpleNamespace(dyhead_probe=Function(probe)))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capabilities[device])
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: NAMES[capabilities[device]])
        forget()
        return probed

    yield simulate
    forget()


def forget():
    native._why_not_running.cache_clear()
    native._usable.clear()


class Function:
    """A function of a C library: callable, and with a type of result."""

    restype = None

    def __init__(self, call):
        self.call = call

    def __call__(self, *arguments):
        return self.call(*arguments)


@pytest.mark.parametrize("capability", [(7, 5), (9, 0), (13, 0)])
def test_a_gpu_that_the_library_fits_runs_an_empty_kernel_once(gpu, capability):
    probed = gpu(capability)
    assert native.available("cuda") and native.available("cuda", 0)
    assert probed == [0]


def test_a_gpu_without_code_is_named_beside_the_code_that_is_there(gpu):
    probed = gpu((7, 0))
    assert native.why_missing("cuda") == (
        "The library has no code for V100 (sm_70), only sm_75 sm_80 sm_90 compute_80 compute_90. "
        "Run: export DYHEAD_CUDA=1 DYHEAD_CUDA_ARCHS=70 && make native"
    )
    assert probed == []


@pytest.mark.parametrize("held", [HELD, None], ids=["listed", "by an older build"])
def test_what_cuda_says_against_an_empty_kernel_is_told(gpu, held):
    """A driver that is too old, or a build that wrote no list of its code."""
    gpu((13, 0), held=held, problem=b"CUDA kernel launch: the provided PTX was compiled with an unsupported toolchain.")
    told = native.why_missing("cuda")
    assert told.startswith("An empty kernel fails on a card of tomorrow (sm_130): CUDA kernel launch: the provided PTX")
    assert told.endswith("Run: export DYHEAD_CUDA=1 DYHEAD_CUDA_ARCHS=130 && make native")


def test_a_gpu_that_runs_the_library_is_asked_no_more(gpu, monkeypatch):
    """Not for files either: every call of an operator comes by here."""
    probed = gpu((9, 0))
    assert native.available("cuda", 0)

    def fail(*_):
        raise AssertionError("asked again")

    monkeypatch.setattr(native, "_why_not_built", fail)
    monkeypatch.setattr(torch.cuda, "is_available", fail)
    assert native.available("cuda", 0) and probed == [0]


def test_each_gpu_of_a_machine_answers_for_itself(gpu):
    gpu((9, 0), (7, 0))
    backends._warn_of_missing_kernels.cache_clear()
    assert backends.choose(None, torch.device("cuda", 0)) == "cuda"
    with pytest.warns(UserWarning, match=r"the CUDA kernels cannot run \(The library has no code for V100") as told:
        assert backends.choose(None, torch.device("cuda", 1)) == "formula"
    assert len(told) == 1


def test_nobody_waits_for_a_kernel_while_a_graph_is_captured(gpu, monkeypatch):
    probed = gpu((9, 0))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert native.available("cuda") and probed == []


def test_an_error_of_cuda_is_not_taken_for_an_answer(gpu, monkeypatch):
    gpu((9, 0))

    def fail(device):
        raise RuntimeError("CUDA error: device busy")

    monkeypatch.setattr(torch.cuda, "get_device_capability", fail)
    with pytest.raises(RuntimeError, match="device busy"):
        native.available("cuda")


@pytest.mark.gpu
def test_the_real_gpu_runs_the_library():
    if not (torch.cuda.is_available() and native.built("cuda")):
        pytest.skip("no GPU, or no library for it")
    assert native.why_missing("cuda") is None

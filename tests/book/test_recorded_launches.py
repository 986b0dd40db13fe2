"""Chapter 04 where no compiler is: it runs on what the emulator printed, and says so."""

from __future__ import annotations

import json

import pytest
import torch

from dyhead_book import build
from dyhead_book.c04_the_cuda_kernel import recorded_launches
from dyhead_book.editions import exercises
from dyhead_lab.ops.cuda_text import KernelError, cuda_kernel, recording, toolchain


@pytest.fixture
def no_compiler(monkeypatch, tmp_path):
    """Neither ``$CXX`` nor a compiler in the path."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(recording, "_known", {})
    assert toolchain.compiler() is None


@pytest.mark.notebook
def test_the_chapter_runs_to_its_end_on_the_recording(no_compiler, tmp_path):
    """The recording holds every launch of the book, so it is the chapter's of today; both editions launch the same."""
    [source] = build.chapters(["04"])
    text = json.dumps(build.execute(build.book(source), tmp_path))
    assert "There is no C++ compiler here" in text and "what the emulator printed" in text
    assert "equal to autograd: True" in text and "Right. All 6 cases agree" in text
    assert "race: thread" in text and "Until then only what the book itself launches" not in text


def test_what_is_not_recorded_is_refused_with_the_remedy(no_compiler):
    recorded_launches.replayed()
    kernel = cuda_kernel("__global__ void mine(float* x) { x[0] = 1; }")
    with pytest.raises(KernelError, match=r"no C\+\+ compiler here. Run: ") as caught:
        kernel(1, 1, torch.zeros(1))
    assert caught.value.kind == "machine"


def test_a_recorded_launch_writes_what_the_emulator_wrote(monkeypatch, tmp_path):
    if toolchain.why_missing():
        pytest.skip(str(toolchain.why_missing()))
    text = "__global__ void twice(const float* x, float* out) { out[threadIdx.x] = 2 * x[threadIdx.x]; }"
    x, out, again = torch.arange(4.0), torch.zeros(4), torch.zeros(4)
    with recording.recorded(tmp_path / "launches.json", largest=1000):
        first = cuda_kernel(text)(1, 4, x, out, watch=(0, range(2)))
    monkeypatch.setattr(recording, "_known", {})
    monkeypatch.setenv("CXX", "no-such-compiler")
    recording.replay(tmp_path / "launches.json")
    second = cuda_kernel(text)(1, 4, x, again, watch=(0, range(2)))
    assert torch.equal(again, 2 * x) and (first.where, second.where) == ("emulator", "recording")
    assert (second.traffic, second.steps) == (first.traffic, first.steps)
    with pytest.raises(KernelError, match="no C"):  # other numbers are another launch
        cuda_kernel(text)(1, 4, x + 1, again, watch=(0, range(2)))


def test_the_recording_holds_no_path_of_a_machine():
    text = recorded_launches.FILE.read_text(encoding="utf-8")
    assert "/home" not in text and "/tmp" not in text and "/root" not in text and len(text) < 600_000
    [source] = build.chapters(["04"])
    assert len(exercises(build.read_source(source))) == 6

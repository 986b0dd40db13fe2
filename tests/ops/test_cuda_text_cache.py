"""Programs made of kernels' texts: kept by content, and run only if nobody else can have put them there."""

from __future__ import annotations

import os
import stat

import pytest
import torch

from dyhead_lab.ops.cuda_text import KernelError, cuda_kernel, toolchain, why_no_emulator
from dyhead_lab.ops.cuda_text.signature import read_signature

pytestmark = pytest.mark.skipif(why_no_emulator() is not None, reason=str(why_no_emulator()))

TEXT = "__global__ void one(float* x) {\n  x[0] = 1;\n}\n"


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    toolchain.cache_folder.cache_clear()
    yield tmp_path / "dyhead_lab" / "cuda_text"
    toolchain.cache_folder.cache_clear()


def test_a_text_is_compiled_once_and_another_text_again(cache):
    signature = read_signature(TEXT)
    first = toolchain.program(TEXT, signature)
    made = first.stat().st_mtime_ns
    assert first.parent == cache and stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert toolchain.program(TEXT, signature) == first and first.stat().st_mtime_ns == made
    assert toolchain.program(TEXT.replace("1;", "2;"), signature) != first
    assert sorted({path.suffix for path in cache.iterdir()}) == [".program", ".surroundings"]


def test_a_program_that_others_could_have_written_is_made_anew(cache):
    signature = read_signature(TEXT)
    path = toolchain.program(TEXT, signature)
    path.write_text("#!/bin/sh\nexit 3\n", encoding="utf-8")
    path.chmod(0o777)
    toolchain.program(TEXT, signature)
    assert not path.stat().st_mode & stat.S_IWOTH
    x = torch.zeros(1)
    cuda_kernel(TEXT)(1, 1, x)
    assert x[0] == 1


def test_a_link_to_somebody_elses_program_is_not_followed(cache, tmp_path):
    signature = read_signature(TEXT)
    path = toolchain.program(TEXT, signature)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    toolchain.program(TEXT, signature)
    assert not path.is_symlink()


def test_a_folder_that_cannot_be_kept_private_is_left_alone(cache):
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    path = toolchain.program(TEXT, read_signature(TEXT))
    assert path.parent != cache and not list(cache.iterdir())
    assert not os.stat(path.parent).st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def test_a_compiler_that_fails_is_told_from_a_wrong_text(cache, monkeypatch, tmp_path):
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\necho 'no more space' >&2\nexit 1\n", encoding="utf-8")
    broken.chmod(0o700)
    monkeypatch.setenv("CXX", str(broken))
    with pytest.raises(KernelError, match="no more space") as caught:
        cuda_kernel(TEXT)
    assert caught.value.kind == "machine"

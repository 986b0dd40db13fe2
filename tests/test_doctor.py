"""The doctor tells what is missing or broken, how to mend it, and never fails itself."""

import importlib.metadata
import re
import sys
from types import SimpleNamespace

import pytest
import torch

from dyhead_lab import doctor
from dyhead_lab.cli import main
from dyhead_lab.doctor import check, machine, workbook
from dyhead_lab.doctor.check import Broken, Check, Missing, one_line
from dyhead_lab.ops import native


def one_check(look, needed=False):
    return check.check("thing", "make thing", needed=needed)(look)()


def raising(exception):
    def look():
        raise exception

    return look


class TestOneCheck:
    def test_words_mean_ok(self):
        assert str(one_check(lambda: "1.2")) == "[ok]      thing: 1.2"

    def test_missing_ends_with_the_usual_remedy(self):
        found = one_check(raising(Missing("not here")))
        assert str(found) == "[missing] thing (optional): not here; to mend: make thing"

    def test_an_exception_may_bring_its_own_remedy(self):
        found = one_check(raising(Broken("too old", "make newer")), needed=True)
        assert str(found) == "[broken]  thing: too old; to mend: make newer"

    def test_a_crash_is_broken_and_fits_on_one_line(self):
        found = one_check(raising(ZeroDivisionError("first\nsecond")))
        assert (found.status, found.detail) == ("broken", "ZeroDivisionError: first second")

    def test_harmful_makes_an_optional_thing_needed(self):
        assert one_check(raising(Broken("card", harmful=True))).needed
        assert not one_check(raising(Broken("card"))).needed

    def test_of_a_long_text_the_end_is_kept(self):
        text = one_line("warning\n" * 100 + "error: the reason")
        assert len(text) <= 304 and text.endswith("error: the reason")


class TestCommand:
    @pytest.mark.parametrize(
        ("found", "status", "last"),
        [
            ([Check("ok", "a", "1", "", True), Check("missing", "b", "no", "get b", False)], 0, "The lab is usable."),
            ([Check("missing", "a", "no", "get a", True)], 1, "The lab is not usable yet: a."),
            ([Check("broken", "a", "no", "get a", True)], 1, "The lab is not usable yet: a."),
        ],
    )
    def test_exit_status_says_whether_the_lab_is_usable(self, monkeypatch, capsys, found, status, last):
        monkeypatch.setattr(doctor, "CHECKS", [lambda line=line: line for line in found])
        assert main(["doctor"]) == status
        assert capsys.readouterr().out.splitlines() == [*map(str, found), last]

    def test_every_bad_line_ends_with_a_command(self, monkeypatch):
        """With PATH and data gone, much is bad; nothing crashes and each line knows its remedy."""
        monkeypatch.setenv("PATH", "")
        monkeypatch.setenv("CUDA_HOME", "/nowhere")
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setattr(machine, "has_nvidia_gpu", lambda: True)
        found = doctor.report()
        assert len(found) == len(doctor.CHECKS)
        assert {line.name for line in found if line.status == "missing"} >= {"nvcc", "C++ compiler", "Chromium"}
        for line in found:
            assert (line.remedy == "") == (line.status == "ok")
            assert str(line).endswith(line.remedy) and "\n" not in str(line)


class TestTorch:
    def test_this_environment_is_a_pair(self):
        found = machine.torch_pair()
        assert (found.status, found.needed) == ("ok", True)

    def test_a_foreign_torch_is_broken(self, monkeypatch):
        monkeypatch.setattr(machine, "installed", {"torch": "2.10.0", "torchvision": "0.26.0"}.__getitem__)
        found = machine.torch_pair()
        assert found.status == "broken"
        pattern = r"torchvision 0\.26\.0 needs torch[=>]=2\.\d+\.\d+, but torch is 2\.10\.0"  # as its metadata say
        assert re.fullmatch(pattern, found.detail)

    @pytest.mark.parametrize(("torchs", "visions", "status"), [(None, None, "ok"), (None, "13000", "broken")])
    def test_builds_for_the_cpu_are_well_unless_they_are_mixed(self, monkeypatch, torchs, visions, status):
        import torchvision

        monkeypatch.setattr(torch.version, "cuda", torchs)
        monkeypatch.setattr(torchvision.version, "cuda", visions, raising=False)
        found = machine.torch_pair()
        assert found.status == status and "(for the CPU)" in found.detail
        told = f"torchvision {machine.installed('torchvision')}"
        assert status == "ok" or (told in found.detail and "from one place" in found.detail)

    def test_a_pair_that_does_not_load_is_told_with_the_reason(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "torchvision", None)
        found = machine.torch_pair()
        assert found.status == "broken" and "from one place (ModuleNotFoundError" in found.detail
        assert found.remedy == "make repair"

    def test_no_torch_is_missing(self, monkeypatch):
        def absent(name):
            raise importlib.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(check, "version", absent)
        assert machine.torch_pair().status == "missing"


@pytest.fixture
def card(monkeypatch):
    """A simulated machine with an H100 and a driver for CUDA 13.0; tests change what they are about."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(machine, "driver_cuda", lambda: (13, 0))
    monkeypatch.setattr(machine, "has_nvidia_gpu", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    for name, value in {
        "is_available": True,
        "get_device_name": "H100",
        "get_device_capability": (9, 0),
        "get_arch_list": ["sm_75", "sm_80", "sm_90", "compute_90"],
        "get_device_properties": SimpleNamespace(total_memory=80 * 2**30),
        "device_count": 2,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *args, value=value: value)
    monkeypatch.setattr(torch, "ones", lambda *size, device: torch.full(size, 1.0))
    return monkeypatch


class TestCudaDevice:
    def test_a_good_card(self, card):
        assert machine.cuda_device() == Check("ok", "CUDA device", "H100, sm_90, 80 GiB, 2 in all", "", False)

    def test_a_newer_driver_of_the_same_major_version_is_fine(self, card):
        card.setattr(machine, "driver_cuda", lambda: (13, 2))
        assert machine.cuda_device().status == "ok"

    def test_no_driver_is_missing_and_optional(self, card):
        card.setattr(machine, "driver_cuda", lambda: None)
        found = machine.cuda_device()
        assert (found.status, found.needed) == ("missing", False)

    def test_an_old_driver_names_both_versions_and_the_driver_to_install(self, card):
        card.setattr(machine, "driver_cuda", lambda: (12, 8))
        found = machine.cuda_device()
        assert (found.status, found.needed) == ("broken", False)
        assert "12.8" in found.detail and "13.0" in found.detail
        assert found.remedy.endswith("nvidia-driver-580")

    def test_an_old_card_is_harmful(self, card):
        card.setattr(torch.cuda, "get_device_capability", lambda index: (7, 0))
        found = machine.cuda_device()
        assert (found.status, found.needed) == ("broken", True)
        assert "sm_70" in found.detail and "sm_75" in found.detail

    def test_a_card_that_does_not_compute_is_harmful(self, card):
        card.setattr(torch, "ones", raising_call(RuntimeError("CUDA error: device busy")))
        found = machine.cuda_device()
        assert (found.status, found.needed) == ("broken", True)
        assert found.detail == "H100 does not compute: CUDA error: device busy"

    def test_a_hidden_card_is_missing(self, card):
        card.setenv("CUDA_VISIBLE_DEVICES", "")
        assert machine.cuda_device().remedy == "unset CUDA_VISIBLE_DEVICES"

    def test_a_driver_without_device_is_broken(self, card):
        card.setattr(torch.cuda, "is_available", lambda: False)
        assert machine.cuda_device().status == "broken"

    def test_torch_for_the_cpu_is_missing_where_there_is_a_gpu(self, card):
        card.setattr(torch.version, "cuda", None)
        card.setattr(machine, "installed", {"torch": "2.11.0+cpu", "torchvision": "0.26.0+cpu"}.__getitem__)
        found = machine.cuda_device()
        assert found.status == "missing"
        assert found.remedy.endswith("pip install --force-reinstall torch==2.11.0 torchvision==0.26.0")

    @pytest.mark.parametrize("cuda", ["13.0", None], ids=["torch with CUDA", "torch for the CPU"])
    def test_a_laptop_is_told_to_install_nothing(self, card, cuda):
        card.setattr(machine, "driver_cuda", lambda: None)
        card.setattr(machine, "has_nvidia_gpu", lambda: False)
        card.setattr(torch.version, "cuda", cuda)
        card.setattr(native, "why_missing", lambda kind: "They were not built")
        card.setenv("PATH", "")
        card.setenv("CUDA_HOME", "/nowhere")
        for look in (machine.cuda_device, machine.nvcc, machine.native_cuda):
            found = look()
            assert (found.status, found.remedy) == ("ok", "") and "no NVIDIA GPU" in found.detail

    @pytest.mark.gpu
    def test_the_real_device(self):
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        assert machine.cuda_device().status == "ok"


def raising_call(exception):
    def call(*args, **kwargs):
        raise exception

    return call


def executable(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


class TestCompilers:
    def test_nvcc_of_cuda_home_is_found(self, monkeypatch, tmp_path):
        path = executable(tmp_path / "bin/nvcc", "echo Cuda compilation tools, release 13.0, V13.0.88")
        monkeypatch.setenv("PATH", "/bin")
        monkeypatch.setenv("CUDA_HOME", str(tmp_path))
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        assert machine.nvcc().detail == f"13.0 ({path})"

    def test_nvcc_of_another_major_version_is_broken(self, monkeypatch, tmp_path):
        executable(tmp_path / "nvcc", "echo release 12.4, V12.4.1")
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        found = machine.nvcc()
        assert found.status == "broken" and "12.4" in found.detail and "13.0" in found.detail

    def test_a_compiler_that_fails_is_broken(self, monkeypatch, tmp_path):
        path = executable(tmp_path / "my-cxx", "echo no license >&2; exit 3")
        monkeypatch.setenv("CXX", str(path))
        found = machine.compiler()
        assert (found.status, found.needed) == ("broken", False)
        assert found.detail.endswith("fails: no license")

    def test_the_compiler_that_cxx_names_is_the_one(self, monkeypatch):
        monkeypatch.setenv("CXX", "no-such-compiler")
        assert machine.compiler().detail.startswith("no no-such-compiler on PATH")


class TestNativeCode:
    @pytest.mark.parametrize("kind", native.KINDS)
    def test_what_ops_native_says_is_told(self, monkeypatch, kind):
        monkeypatch.setattr(machine, "has_nvidia_gpu", lambda: True)
        look = {"emulated": machine.native_cpu, "cuda": machine.native_cuda}[kind]
        monkeypatch.setattr(native, "why_missing", lambda asked: None if asked == kind else "another")
        assert look().status == "ok" and ("an empty kernel runs" in look().detail) == (kind == "cuda")

    def test_the_stored_reason_and_its_remedy_come_apart(self, monkeypatch):
        stored = "They were not built: the compiler failed:\na.cu:3: error: x.y\nMend it, then run: FLAG=1 make native"
        monkeypatch.setattr(native, "why_missing", lambda kind: stored)
        monkeypatch.setattr(machine, "has_nvidia_gpu", lambda: True)
        found = machine.native_cuda()
        assert found.detail == "not built: the compiler failed: a.cu:3: error: x.y"
        assert found.remedy == "FLAG=1 make native"

    def test_a_library_without_code_for_the_gpu_is_told_with_its_remedy(self, monkeypatch):
        stored = "The library has no code for V100 (sm_70), only sm_75 compute_80. Run: export A=70 && make native"
        monkeypatch.setattr(native, "why_missing", lambda kind: stored)
        monkeypatch.setattr(native, "built", lambda kind: True)
        monkeypatch.setattr(machine, "has_nvidia_gpu", lambda: True)
        found = machine.native_cuda()
        assert (found.status, found.needed) == ("broken", False)
        assert found.detail == "The library has no code for V100 (sm_70), only sm_75 compute_80"
        assert found.remedy == "export A=70 && make native"

    def test_a_reason_without_remedy_gets_the_usual_one(self, monkeypatch):
        monkeypatch.setattr(native, "why_missing", lambda kind: "nobody knows")
        assert (machine.native_cpu().detail, machine.native_cpu().remedy) == ("nobody knows", "make native")


class TestShares:
    def test_what_a_container_gives_and_where_training_computes(self, monkeypatch):
        monkeypatch.setenv("DYHEAD_DEVICE", "cpu")
        monkeypatch.setattr(machine, "processors", lambda: 2)
        monkeypatch.setattr(machine, "memory_limit", lambda: 3 * 2**29)
        found = machine.shares()
        assert found.detail.startswith("2 of ") and "1.5 GiB of memory" in found.detail
        assert found.detail.endswith("compute on: cpu")

    def test_a_device_that_is_not_there_is_broken(self, monkeypatch):
        monkeypatch.setenv("DYHEAD_DEVICE", "tpu")
        assert (machine.shares().status, machine.shares().remedy) == ("broken", "unset DYHEAD_DEVICE")

    @pytest.mark.parametrize("look", [machine.compiler, machine.native_cpu])
    def test_windows_needs_no_compiler(self, monkeypatch, look):
        monkeypatch.setattr(machine, "has_ucontext", lambda: False)
        assert look().status == "ok" and "chapter 04 shows recorded launches" in look().detail


class TestWorkbook:
    def test_packages_of_this_environment_are_well(self):
        assert [look().status for look in (workbook.numba, workbook.jupyterlab, workbook.widgets)] == ["ok"] * 3

    def test_numba_says_on_how_many_threads_the_kernels_run(self, monkeypatch):
        from dyhead_lab.ops.cpu import threads

        monkeypatch.setattr(threads, "team", lambda items: 3)
        assert "kernels on 3 threads" in workbook.numba().detail

    def test_a_widget_manager_of_the_wrong_version_is_broken(self, monkeypatch):
        real = workbook.installed
        monkeypatch.setattr(workbook, "installed", lambda name: "1.0" if name == "jupyterlab_widgets" else real(name))
        found = workbook.widgets()
        assert (found.status, found.needed) == ("broken", True)
        assert "jupyterlab_widgets is 1.0" in found.detail

    def test_a_widget_manager_that_jupyterlab_cannot_see_is_broken(self, monkeypatch, tmp_path):
        monkeypatch.setattr("jupyter_core.paths.jupyter_path", lambda *names: [str(tmp_path)])
        found = workbook.widgets()
        assert found.status == "broken" and "@jupyter-widgets/jupyterlab-manager" in found.detail

    def test_missing_weights_make_the_lab_unusable(self, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(workbook, "WEIGHTS", tmp_path / "weights")
        found = workbook.weights()
        assert (found.status, found.needed) == ("missing", True)
        assert found.detail == "no weights/quickstart.pt"

    def test_weights_that_nothing_can_read_are_not_to_be_restored(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "dyhead_lab.zoo", None)
        found = workbook.weights()
        assert found.status == "broken" and "nothing can read them (ModuleNotFoundError" in found.detail
        assert found.remedy == "make repair"

    def test_damaged_weights_are_broken(self, monkeypatch, tmp_path):
        (tmp_path / "quickstart.pt").write_bytes(b"not weights")
        monkeypatch.setattr(workbook, "WEIGHTS", tmp_path)
        assert workbook.weights().status == "broken"

    def test_a_coco_folder_tells_what_it_lacks(self, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("DYHEAD_DATA", str(tmp_path))
        assert workbook.coco().detail.startswith("no coco2017")
        assert workbook.coco().remedy == "dyhead-lab data coco --out coco2017"
        for part in ("annotations", "val2017"):
            (tmp_path / "coco2017" / part).mkdir(parents=True)
        (tmp_path / "coco2017/annotations/instances_val2017.json").touch()
        found = workbook.coco()
        assert found.detail == "coco2017 lacks annotations/instances_train2017.json, train2017"
        assert (found.status, found.needed) == ("missing", False)

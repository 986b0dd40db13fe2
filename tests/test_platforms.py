"""What differs by system, simulated: other systems' names, functions that are missing, files as Linux shows them."""

import ctypes
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from dyhead_lab import hardware, paths, platforms
from dyhead_lab.errors import UserError


@pytest.fixture(params=["linux", "darwin", "win32"])
def system(request, monkeypatch):
    monkeypatch.setattr(sys, "platform", request.param)
    return request.param


def by_system(system, linux, darwin, win32):
    return {"linux": linux, "darwin": darwin, "win32": win32}[system]


class TestFiles:
    def test_libraries_and_programs_have_the_names_of_the_system(self, system, tmp_path):
        names = by_system(system, "libdyhead_cuda.so", "libdyhead_cuda.dylib", "dyhead_cuda.dll")
        assert platforms.library_file("dyhead_cuda") == names
        python = by_system(system, "bin/python", "bin/python", "Scripts/python.exe")
        assert platforms.python_of(tmp_path) == tmp_path / python

    def test_the_native_code_is_looked_for_under_that_name(self, system):
        from dyhead_lab.ops import native

        assert native._library("emulated").name == platforms.library_file("dyhead_emulated")

    def test_every_system_says_how_a_compiler_and_a_browser_are_installed(self, system):
        assert platforms.install("compiler") and platforms.install("browser")
        assert ("apt-get" in platforms.install("compiler")) == (system == "linux")

    def test_a_version_stands_in_the_name_of_a_package(self, monkeypatch):
        monkeypatch.setattr(sys, "platform", "linux")
        assert platforms.install("driver", 580).endswith("nvidia-driver-580")

    def test_data_and_caches_go_where_the_system_keeps_them(self, system, monkeypatch, tmp_path):
        for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "DYHEAD_READER"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "Local"))
        monkeypatch.setattr(platforms.Path, "home", lambda: tmp_path)
        assert (
            paths.reader_folder()
            == tmp_path / by_system(system, ".local/share", ".local/share", "Local") / "dyhead_lab"
        )
        assert platforms.cache_home() == tmp_path / by_system(system, ".cache", "Library/Caches", "Local")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
        assert platforms.cache_home() == tmp_path / "mine"

    def test_a_file_that_others_can_change_is_not_private(self, tmp_path):
        file = tmp_path / "file"
        assert not platforms.is_private(file)
        file.touch(mode=0o600)
        assert platforms.is_private(file)
        (tmp_path / "link").symlink_to(file)
        assert not platforms.is_private(tmp_path / "link")
        file.chmod(0o666)
        assert not platforms.is_private(file)

    def test_without_file_modes_a_plain_file_is_private(self, tmp_path, monkeypatch):
        monkeypatch.delattr(os, "getuid")
        monkeypatch.delattr(os, "geteuid")
        (tmp_path / "file").touch(mode=0o666)
        assert platforms.is_private(tmp_path / "file") and not platforms.is_root()


class TestProcesses:
    def test_memory_is_counted_in_the_units_of_the_system(self, system, monkeypatch):
        usage = SimpleNamespace(getrusage=lambda who: SimpleNamespace(ru_maxrss=7), RUSAGE_SELF=0)
        windows = SimpleNamespace(Process=lambda: SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=9)))
        monkeypatch.setitem(sys.modules, "resource", None if system == "win32" else usage)
        monkeypatch.setitem(sys.modules, "psutil", windows)
        assert platforms.peak_resident() == by_system(system, 7 * 1024, 7, 9)

    def test_this_process_has_held_memory(self):
        assert 2**20 < platforms.peak_resident() < 2**45

    def test_without_fork_nothing_is_registered(self, monkeypatch):
        monkeypatch.delattr(os, "register_at_fork")
        platforms.after_fork(lambda: None)


def group(root, own, **settings):
    """A control group as Linux shows it: ``own`` is the line of the process, settings are files by path."""
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/self/cgroup").write_text(own, encoding="ascii")
    for path, text in settings.items():
        file = root / "sys/fs/cgroup" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n", encoding="ascii")


class TestShares:
    @pytest.fixture(autouse=True)
    def sixteen(self, monkeypatch):
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)

    def test_without_control_groups_the_bound_processors_count(self, tmp_path, monkeypatch):
        assert platforms.processors(tmp_path) == 16 and platforms.memory_limit(tmp_path) is None
        monkeypatch.delattr(os, "sched_getaffinity")  # macOS, Windows
        monkeypatch.setattr(os, "cpu_count", lambda: None)
        assert platforms.processors(tmp_path) == 1

    @pytest.mark.parametrize(("quota", "expected"), [("max 100000", 16), ("150000 100000", 2), ("5000 100000", 1)])
    def test_a_container_of_version_2(self, tmp_path, quota, expected):
        group(tmp_path, "0::/\n", **{"cpu.max": quota, "memory.max": "2147483648"})
        assert platforms.processors(tmp_path) == expected
        assert platforms.memory_limit(tmp_path) == 2 * 2**30

    def test_groups_above_limit_as_well(self, tmp_path):
        """As a batch system sets them: the job's limit stands above the step."""
        settings = {"job/cpu.max": "400000 100000", "job/step/cpu.max": "max 100000", "job/step/memory.max": "max"}
        group(tmp_path, "0::/job/step\n", **settings, **{"job/memory.max": "1024"})
        assert platforms.processors(tmp_path) == 4 and platforms.memory_limit(tmp_path) == 1024

    def test_a_container_of_version_1(self, tmp_path):
        settings = {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}
        own = "3:cpu,cpuacct:/docker/abc\n2:memory:/docker/abc\n"  # a path of the host, not seen inside
        group(tmp_path, own, **settings, **{"memory/memory.limit_in_bytes": "4096"})
        assert platforms.processors(tmp_path) == 3 and platforms.memory_limit(tmp_path) == 4096

    def test_version_1_says_none_by_other_numbers(self, tmp_path):
        settings = {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}
        group(tmp_path, "3:cpu:/\n2:memory:/\n", **settings, **{"memory/memory.limit_in_bytes": "9223372036854771712"})
        assert platforms.processors(tmp_path) == 16 and platforms.memory_limit(tmp_path) is None

    def test_shared_memory_is_none_without_its_folder(self, tmp_path):
        assert platforms.shared_memory(tmp_path / "shm") is None
        assert platforms.shared_memory(tmp_path) > 0

    def test_a_small_container_keeps_few_images_in_memory(self, monkeypatch):
        from dyhead_lab.training import loader

        images = {0: {"height": 10_000, "width": 10_000}}
        data = SimpleNamespace(coco=SimpleNamespace(imgs=images), folder=paths.SAMPLE)
        monkeypatch.setattr(loader, "stands_for_coco", lambda dataset: False)
        monkeypatch.setattr(loader, "memory_limit", lambda: None)
        assert loader.fits_in_memory(data)
        monkeypatch.setattr(loader, "memory_limit", lambda: 2**30)
        assert not loader.fits_in_memory(data)


class TestHardware:
    def test_the_processor_has_a_name_everywhere(self, system, monkeypatch, tmp_path):
        monkeypatch.setattr(subprocess, "run", lambda *command, **options: SimpleNamespace(stdout="Apple M4\n"))
        monkeypatch.setattr(platforms.platform, "processor", lambda: "a name")
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc/cpuinfo").write_text("model name : Xeon\n", encoding="ascii")
        assert platforms.processor_name(tmp_path) == by_system(system, "Xeon", "Apple M4", "Xeon")
        assert system == "darwin" or platforms.processor_name(tmp_path / "nowhere") == "a name"

    def test_the_driver_has_another_name_on_windows(self, system, monkeypatch):
        monkeypatch.setattr(ctypes, "CDLL", lambda name: name)
        assert platforms.cuda_driver() == by_system(system, "libcuda.so.1", "libcuda.so.1", "nvcuda.dll")


class TestDevice:
    @pytest.fixture(autouse=True)
    def there(self, monkeypatch):
        import torch

        monkeypatch.delenv("DYHEAD_DEVICE", raising=False)

        def put(cuda, mps):
            monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
            monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

        return put

    @pytest.mark.parametrize(
        ("cuda", "mps", "wish", "expected"),
        [(True, False, "", "cuda"), (False, True, "", "cpu"), (False, True, "mps", "mps"), (True, False, "cpu", "cpu")],
    )
    def test_apples_gpu_is_taken_only_when_it_is_chosen(self, there, monkeypatch, cuda, mps, wish, expected):
        there(cuda, mps)
        monkeypatch.setenv("DYHEAD_DEVICE", wish)
        assert hardware.computing_device().type == expected

    @pytest.mark.parametrize(
        ("wish", "message"), [("tpu", "expected one of cpu, cuda, mps"), ("mps", "no such device")]
    )
    def test_a_device_that_is_not_there_is_named(self, there, monkeypatch, wish, message):
        there(False, False)
        monkeypatch.setenv("DYHEAD_DEVICE", wish)
        with pytest.raises(UserError, match=message):
            hardware.computing_device()

    @pytest.mark.parametrize(
        ("cuda", "mps", "asked"), [(False, True, True), (False, False, False), (True, False, False)]
    )
    def test_training_computes_where_evaluation_does(self, there, monkeypatch, cuda, mps, asked):
        """Accelerate would take Apple's GPU by itself; where there is no GPU it may start several processes."""
        from dyhead_lab.training import distributed

        there(cuda, mps)
        monkeypatch.setattr(distributed, "Accelerator", lambda mixed_precision, cpu: cpu)
        assert distributed.accelerator_here() is asked

    def test_operators_run_as_the_formula_there(self):
        import torch

        from dyhead_lab.ops.backends import choose

        assert choose(None, torch.device("mps")) == "formula"


ELSEWHERE = """
import os, sys, importlib, pkgutil
import accelerate, anywidget, matplotlib.pyplot, numba, pycocotools, timm, torch, torch._dynamo, torchvision
import torch.utils.data, transformers
for name in ("sched_getaffinity", "register_at_fork", "getuid", "geteuid", "fork", "uname"):
    delattr(os, name)
for name in ("resource", "fcntl", "pwd", "grp", "termios"):
    sys.modules[name] = None
import shutil, types
shutil._winapi = types.SimpleNamespace(NeedCurrentDirectoryForExePath=lambda name: False)  # Python 3.12 asks Windows
sys.platform = sys.argv[1]
import dyhead_lab
for module in pkgutil.walk_packages(dyhead_lab.__path__, "dyhead_lab."):
    importlib.import_module(module.name)
from dyhead_lab.data.shapes import draw_image
trained = dyhead_lab.load_trained("quickstart")
image = torch.from_numpy(draw_image(0, 1)[0]).permute(2, 0, 1) / 255
[found] = trained.model([image])
print(len(found["scores"]) > 0, dyhead_lab.ops.native.available("emulated"))
from dyhead_lab.ops.cuda_text import why_no_emulator
print(why_no_emulator())
"""


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_everything_imports_and_a_detector_runs_on_a_system_without_linuxs_functions(system):
    command = [sys.executable, "-c", ELSEWHERE, system]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "True False\nKernels that come as text run in the emulator on Linux only (under Windows, in WSL).\n"
    )


SPAWNED = """
import multiprocessing, torch

def compute():
    from dyhead_lab.ops import deform_conv2d
    torch.set_num_threads(2)
    x = torch.arange(50.0).view(1, 2, 5, 5).requires_grad_()
    deform_conv2d(x, torch.full((1, 2, 5, 5), 0.5), torch.ones(1, 2, 1, 1)).sum().backward()
    print(x.grad[0, 0, 2, 2].item(), flush=True)

if __name__ == "__main__":
    compute()
    child = multiprocessing.get_context("spawn").Process(target=compute)
    child.start()
    child.join()
    print(child.exitcode)
"""


def test_processes_that_are_spawned_compute_and_end_well(tmp_path):
    """As macOS and Windows start them: such a process ended with SIGABRT while the kernels had threads of their own."""
    (tmp_path / "spawned.py").write_text(SPAWNED, encoding="utf-8")
    command = [sys.executable, str(tmp_path / "spawned.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "1.0\n1.0\n0\n"), done.stderr

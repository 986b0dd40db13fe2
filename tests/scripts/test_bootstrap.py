"""The set-up does what is needed and no more, refuses what cannot end well, and continues after an interruption."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from .house import ROOT, RUNNING, SCRIPT, bootstrap, environment, free_space, steps_of_one_more_call


class TestSteps:
    def test_a_fresh_machine_gets_everything(self, house):
        assert steps_of_one_more_call(house) == ["venv", "packages", "native", "project"]

    def test_the_lab_saves_widgets_with_a_notebook(self, house):
        assert bootstrap.main([], house.root) == 0
        settings = json.loads((house.venv / "share/jupyter/lab/settings/overrides.json").read_text(encoding="utf-8"))
        assert settings == {"@jupyter-widgets/jupyterlab-manager:plugin": {"saveState": True}}

    def test_the_second_call_does_nothing(self, house):
        steps_of_one_more_call(house)
        assert steps_of_one_more_call(house) == []

    @pytest.mark.parametrize("name", ["constraints.txt", "pyproject.toml"])
    def test_other_versions_are_installed_and_what_stands_on_them_is_built(self, house, name):
        steps_of_one_more_call(house)
        (house.root / name).write_text(
            (house.root / name).read_text(encoding="utf-8") + "# changed\n", encoding="utf-8"
        )
        assert steps_of_one_more_call(house) == ["packages", "native", "project"]

    @pytest.mark.parametrize("change", ["other text", None])
    def test_other_sources_are_built_again(self, house, change):
        steps_of_one_more_call(house)
        kernel = house.root / "csrc" / "kernel.cu"
        kernel.write_text(change, encoding="utf-8") if change else kernel.unlink()
        assert steps_of_one_more_call(house) == ["native", "project"]

    def test_a_compiler_that_appears_is_used(self, house, monkeypatch):
        monkeypatch.setattr(shutil, "which", lambda name: None)
        steps_of_one_more_call(house)
        monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
        assert steps_of_one_more_call(house) == ["native", "project"]

    def test_native_and_repair_insist(self, house):
        steps_of_one_more_call(house)
        assert steps_of_one_more_call(house, "native") == ["native", "project"]
        assert steps_of_one_more_call(house, "repair") == ["packages", "native", "project"]

    def test_pip_gets_the_pins_and_every_requirement_once(self, house):
        steps_of_one_more_call(house)
        command = house.commands[1]
        at = command.index("--constraint")
        assert command[at:] == [
            *["--constraint", str(house.root / "constraints.txt")],
            *["--constraint", str(house.root / "constraints-cuda.txt")],
            *["setuptools", "torch>=2.11", "numpy", "pytest"],
        ]

    @pytest.mark.parametrize("failing", ["venv", "packages", "native", "project"])
    def test_a_step_that_failed_is_done_again(self, house, capsys, failing):
        house.failing = failing
        assert bootstrap.main([], house.root) == 1
        assert capsys.readouterr().err.startswith("error: ")
        assert house.steps[-1] == failing
        house.failing = ""
        if failing == "venv":
            house.version = None  # what venv left behind does not run
        assert steps_of_one_more_call(house)[0] == ("native" if failing == "project" else failing)
        assert steps_of_one_more_call(house) == []

    def test_an_interrupt_says_that_the_same_command_continues(self, house, monkeypatch, capsys):
        def interrupt(*args):
            raise KeyboardInterrupt

        monkeypatch.setattr(bootstrap, "install_packages", interrupt)
        assert bootstrap.main([], house.root) == 130
        assert "continues" in capsys.readouterr().err
        monkeypatch.undo()
        assert not (house.venv / "packages.stamp").exists()


class TestPython:
    @pytest.mark.parametrize("version", [(2, 7), (3, 6), (3, 10)])
    def test_an_old_python_is_told_the_way_out(self, monkeypatch, version):
        monkeypatch.setattr(shutil, "which", lambda name: name if name == "python3.12" else None)
        with pytest.raises(environment.SetupError) as error:
            bootstrap.check_python(version)
        assert f"Python {version[0]}.{version[1]} is too old" in str(error.value)
        assert "run make with PYTHON=python3.12" in str(error.value)

    def test_without_a_newer_one_it_says_to_install_one(self, monkeypatch):
        monkeypatch.setattr(shutil, "which", lambda name: None)
        with pytest.raises(environment.SetupError, match="Install one"):
            bootstrap.check_python((3, 9))

    @pytest.mark.parametrize("version", [(3, 11), (3, 14), (4, 0)])
    def test_a_new_one_is_fine(self, version):
        bootstrap.check_python(version)

    def test_an_old_python_touches_nothing(self, house, monkeypatch, capsys):
        monkeypatch.setattr(bootstrap.sys, "version_info", (3, 10, 1))
        assert bootstrap.main([], house.root) == 1
        assert "too old" in capsys.readouterr().err
        assert house.steps == [] and not house.venv.exists()

    def test_an_old_python_can_read_the_script(self):
        """3.6 is the oldest that its f-strings allow. The module that 3.11 brought is imported late."""
        own = {"environment", "torch_builds"}
        for path in (SCRIPT, *(SCRIPT.with_name(f"{name}.py") for name in own)):
            tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 6))
            top = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
            assert "tomllib" not in top and top <= sys.stdlib_module_names | own

    def test_another_python_is_taken_only_if_it_is_asked_for(self, house, monkeypatch):
        steps_of_one_more_call(house)
        house.version = (3, RUNNING[1] + 1)
        assert "venv" not in steps_of_one_more_call(house)
        monkeypatch.setenv("PYTHON", "python3")
        assert steps_of_one_more_call(house)[0] == "venv"

    def test_a_python_without_ensurepip_names_the_package(self, house, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "ensurepip", None)
        assert bootstrap.main([], house.root) == 1
        assert "python3-venv" in capsys.readouterr().err
        assert house.steps == []

    def test_a_venv_that_does_not_run_has_no_version(self, tmp_path):
        assert environment.venv_version(tmp_path) is None


class TestDisk:
    def test_a_short_disk_is_refused_before_anything_is_made(self, house, monkeypatch, capsys):
        free_space(monkeypatch, 5)
        assert bootstrap.main([], house.root) == 1
        message = capsys.readouterr().err
        assert "the disk is short" in message and "5.0 GB free" in message
        assert house.steps == [] and not house.venv.exists()

    def test_nobody_asks_when_nothing_is_installed(self, house, monkeypatch):
        steps_of_one_more_call(house)
        free_space(monkeypatch, 0)
        assert steps_of_one_more_call(house) == []

    def test_what_is_installed_already_counts(self, house, monkeypatch):
        steps_of_one_more_call(house)
        monkeypatch.setattr(environment, "bytes_below", lambda folder: 6.0e9)
        free_space(monkeypatch, 1)
        assert steps_of_one_more_call(house, "repair") == ["packages", "native", "project"]

    def test_an_environment_that_is_replaced_makes_room(self, house, monkeypatch):
        monkeypatch.setattr(environment, "bytes_below", lambda folder: 6.0e9 if house.version is None else 0)
        free_space(monkeypatch, 3)
        assert bootstrap.main([], house.root) == 1  # the disk stays simulated: too small for the packages
        assert house.steps == ["venv"]

    def test_pip_unpacks_beside_the_environment_and_leaves_nothing(self, house, monkeypatch):
        seen = []
        noted = environment.call

        def call(command, environment=None):
            if environment:
                temporary = Path(environment["TMPDIR"])
                seen.append(list(temporary.iterdir()))
                (temporary / "torch.whl").touch()
            return noted(command)

        monkeypatch.setattr(environment, "call", call)
        (house.root / ".venv" / "tmp" / "left by a killed pip").mkdir(parents=True)
        house.version = RUNNING
        steps_of_one_more_call(house)
        assert seen == [[]] and not (house.venv / "tmp").exists()

    def test_the_cache_is_left_out_where_it_would_fill_the_disk(self, house, monkeypatch):
        free_space(monkeypatch, 10)
        steps_of_one_more_call(house)
        assert "--no-cache-dir" in house.commands[1]
        free_space(monkeypatch, 100)
        steps_of_one_more_call(house, "repair")
        assert "--no-cache-dir" not in house.commands[-3]

    def test_bytes_below_counts_all_files(self, tmp_path):
        (tmp_path / "a").write_bytes(b"12345")
        (tmp_path / "deep" / "er").mkdir(parents=True)
        (tmp_path / "deep" / "er" / "b").write_bytes(b"123")
        (tmp_path / "broken link").symlink_to("nowhere!")  # counts as its own length
        assert environment.bytes_below(tmp_path) == 5 + 3 + 8


class TestHalfInstalledPackages:
    @pytest.fixture
    def package(self, tmp_path):
        """An installed package of one module, whose RECORD lists a compiled file that is not there."""
        packages = tmp_path / "lib" / "python3.11" / "site-packages"
        info = packages / "thing-1.0.dist-info"
        info.mkdir(parents=True)
        (packages / "thing.py").write_text("x = 1\n", encoding="utf-8")
        (info / "RECORD").write_text(
            'thing.py,sha256=abc,6\n"__pycache__/thing.cpython-311.pyc",,\nthing-1.0.dist-info/RECORD,,\n',
            encoding="utf-8",
        )
        return SimpleNamespace(venv=tmp_path, info=info, module=packages / "thing.py")

    def test_a_whole_package_stays(self, package):
        assert environment.drop_half_installed(package.venv) == []
        assert package.info.exists()

    @pytest.mark.parametrize("damage", ["no module", "half a module", "no record"])
    def test_a_broken_one_is_forgotten(self, package, damage):
        if damage == "no module":
            package.module.unlink()
        elif damage == "half a module":
            package.module.write_text("x =", encoding="utf-8")
        else:
            (package.info / "RECORD").unlink()
        assert environment.drop_half_installed(package.venv) == ["thing-1.0"]
        assert not package.info.exists()


class TestMakefile:
    def make(self, *args):
        outer = {
            "MAKEFLAGS",
            "MAKELEVEL",
            "PYTHON",
            "ARGS",
            "WORKERS",
            "TORCH",
            "TORCH_INDEX",
        }  # of the make that may run this test
        clean = {name: value for name, value in os.environ.items() if name not in outer}
        return subprocess.run(["make", *args], cwd=ROOT, env=clean, capture_output=True, text=True, check=True).stdout

    def test_help_is_the_default_and_lists_every_target(self):
        targets = [line.split()[1] for line in self.make().splitlines()]
        assert {"lab", "test", "test-all", "notebooks", "lint", "doctor", "native", "repair"} <= set(targets)

    def test_lab_passes_its_arguments_to_jupyter(self):
        command = self.make("--dry-run", "lab", "ARGS=--no-browser")
        assert command.split() == ["python3", "scripts/bootstrap.py", "lab", "--no-browser"]

    def test_builds_of_torch_are_chosen_by_a_word(self):
        command = self.make("--dry-run", "lab", "TORCH=cpu", "TORCH_INDEX=file:///builds")
        assert "lab --torch cpu --torch-index file:///builds" in command

    def test_tests_run_in_two_processes_of_one_thread(self):
        command = self.make("--dry-run", "test")
        assert "-n 2" in command and '-m "not slow"' in command
        for name in ("OMP", "MKL", "NUMBA"):
            assert f"{name}_NUM_THREADS=1" in command
        assert "not slow" not in self.make("--dry-run", "test-all")

    def test_another_python_makes_the_environment(self):
        assert "python3.12 scripts/bootstrap.py" in self.make("--dry-run", "setup", "PYTHON=python3.12")

"""Builds of torch are chosen, remembered and replaced; what lies in the environment is started."""

import os
import shutil
import subprocess
import sys

import pytest

from .house import RUNNING, bootstrap, environment, free_space, steps_of_one_more_call, torch_builds


class TestBuildsOfTorch:
    def test_builds_for_the_cpu_come_by_uv_without_what_cuda_needs(self, house, monkeypatch):
        monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/uv" if name == "uv" else None)
        assert steps_of_one_more_call(house, "--torch", "cpu") == ["venv", "packages", "native", "project"]
        command = house.commands[1]
        assert command[:5] == ["/usr/bin/uv", "pip", "install", "--python", environment.venv_python(house.venv)]
        assert command[command.index("--torch-backend") + 1] == "cpu"
        assert [word for word in command if "constraints" in word] == [str(house.root / "constraints.txt")]

    def test_uv_is_brought_where_it_is_not_there(self, house, monkeypatch):
        monkeypatch.setattr(shutil, "which", lambda name: None)
        assert steps_of_one_more_call(house, "--torch", "cpu") == ["venv", "uv", "packages", "native", "project"]
        assert house.commands[2][0].endswith("uv")
        house.failing = "uv"
        assert bootstrap.main(["repair"], house.root) == 1

    def test_an_address_does_without_uv_and_takes_both_from_there(self, house):
        steps_of_one_more_call(house, "--torch", "cpu", "--torch-index", "file:///builds")
        command = house.commands[1]
        at = command.index("--extra-index-url")
        assert command[1:4] == ["-m", "pip", "install"]
        assert command[at : at + 4] == [
            "--extra-index-url",
            "file:///builds",
            "torch==2.11.0+cpu",
            "torchvision==0.26.0+cpu",
        ]

    def test_the_choice_and_its_address_are_remembered(self, house):
        steps_of_one_more_call(house, "--torch", "cpu", "--torch-index", "file:///builds")
        assert steps_of_one_more_call(house) == []
        house.commands.clear()
        assert steps_of_one_more_call(house, "repair") == ["packages", "native", "project"]
        assert "file:///builds" in house.commands[0]

    def test_other_builds_replace_those_that_are_there(self, house):
        """pip would take 2.11.0+cpu for 2.11.0, and leave it."""
        steps_of_one_more_call(house)
        steps = steps_of_one_more_call(house, "--torch", "cpu", "--torch-index", "file:///builds")
        assert steps == ["removal", "packages", "native", "project"]
        removal = next(command for command in house.commands if "uninstall" in command)
        assert removal[-3:] == ["torch", "torchvision", "triton"]
        assert steps_of_one_more_call(house, "--torch", "default") == ["removal", "packages", "native", "project"]
        assert "--extra-index-url" not in house.commands[-3]

    def test_repair_replaces_a_pair_that_does_not_load(self, house, monkeypatch):
        steps_of_one_more_call(house)
        assert steps_of_one_more_call(house, "repair") == ["packages", "native", "project"]
        monkeypatch.setattr(torch_builds, "loads", lambda venv: False)
        assert steps_of_one_more_call(house, "repair") == ["removal", "packages", "native", "project"]

    @pytest.mark.parametrize("system", ["darwin", "win32"])
    def test_elsewhere_pip_brings_builds_for_the_cpu_by_itself(self, house, monkeypatch, system):
        monkeypatch.setattr(sys, "platform", system)
        free_space(monkeypatch, 5)  # too little for builds with CUDA
        steps_of_one_more_call(house, "--torch", "cpu")
        command = house.commands[1]
        assert command[1:4] == ["-m", "pip", "install"] and command.count("--constraint") == 1

    def test_an_environment_that_uv_made_is_filled_by_uv(self, house, monkeypatch):
        monkeypatch.setattr(environment, "has_pip", lambda venv: False)
        monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/uv" if name == "uv" else None)
        house.version = RUNNING
        house.venv.mkdir()
        assert steps_of_one_more_call(house) == ["packages", "native", "project"]
        assert all(command[:3] == ["/usr/bin/uv", "pip", "install"] for command in house.commands[::2])

    @pytest.mark.parametrize(("vision", "fits"), [("None", True), ("13000", False)])
    def test_a_pair_of_one_kind_that_loads_fits(self, tmp_path, monkeypatch, vision, fits):
        """Modules in the place of the packages, in an environment whose Python is the running one."""
        for name, cuda in (("torch", "None"), ("torchvision", vision)):
            (tmp_path / f"{name}.py").write_text(f"class version:\n    cuda = {cuda}\n", encoding="utf-8")
        monkeypatch.setattr(environment, "venv_python", lambda venv: sys.executable)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        assert torch_builds.loads(tmp_path) == fits
        (tmp_path / "torchvision.py").write_text("raise ImportError\n", encoding="utf-8")
        assert not torch_builds.loads(tmp_path)


class TestStart:
    def test_lab_starts_jupyterlab_of_the_environment_with_its_programs_on_the_path(self, house, monkeypatch):
        started, interrupts = {}, iter([True])

        class Process:
            def __init__(self, command, cwd, env):
                started.update(command=command, cwd=cwd, path=env["PATH"].split(os.pathsep)[0])

            def wait(self):
                if next(interrupts, False):
                    raise KeyboardInterrupt  # JupyterLab has got it as well, and asks
                return 3

        monkeypatch.setattr(subprocess, "Popen", Process)
        assert bootstrap.main(["lab", "--no-browser"], house.root) == 3
        assert started["command"][1:3] == ["-m", "jupyterlab"] and started["command"][-1] == "--no-browser"
        assert started["command"][0].startswith(started["path"]) and started["cwd"] == str(house.root)
        assert any("notebooks/00_start_here.ipynb" in word for word in started["command"])

    def test_windows_has_its_programs_elsewhere(self, house, monkeypatch):
        monkeypatch.setattr(sys, "platform", "win32")
        (house.venv / "Lib" / "site-packages").mkdir(parents=True)
        assert environment.venv_python(house.venv) == str(house.venv / "Scripts" / "python.exe")
        assert environment.site_packages(house.venv) == [house.venv / "Lib" / "site-packages"]

    def test_only_jupyterlab_takes_further_arguments(self, house, capsys):
        with pytest.raises(SystemExit):
            bootstrap.main(["setup", "--no-browser"], house.root)
        assert "unrecognized arguments: --no-browser" in capsys.readouterr().err
        assert house.steps == []

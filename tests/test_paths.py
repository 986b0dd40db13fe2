"""What is shipped is found, data goes where it may, and remedies fit the kind of installation."""

import importlib.metadata
import json
import os
import sys
from types import SimpleNamespace

import pytest

from dyhead_lab import paths, remedies
from dyhead_lab.errors import UserError


class TestPaths:
    def test_everything_that_is_shipped_is_there(self):
        assert (paths.WEIGHTS / "quickstart.pt").is_file() and (paths.SAMPLE / "bccd_log.jsonl").is_file()
        assert (paths.CSRC / "build.py").is_file() and (paths.CHAPTERS / "00_start_here.ipynb").is_file()

    def test_data_lies_in_the_checkout(self, monkeypatch):
        monkeypatch.delenv("DYHEAD_DATA", raising=False)
        assert paths.CHECKOUT is not None and paths.data_folder() == paths.CHECKOUT / "data"

    def test_data_of_an_installed_package_lies_with_the_reader(self, monkeypatch, tmp_path):
        monkeypatch.delenv("DYHEAD_DATA", raising=False)
        monkeypatch.setenv("DYHEAD_READER", str(tmp_path))
        monkeypatch.setattr(paths, "CHECKOUT", None)
        assert paths.data_folder() == tmp_path / "data"
        assert paths.coco_path() == tmp_path / "data" / "coco2017"

    def test_the_reader_chooses_where_data_lies(self, monkeypatch, tmp_path):
        monkeypatch.setenv("DYHEAD_DATA", str(tmp_path))
        assert paths.data_folder() == tmp_path


class TestSharedCheckout:
    """A checkout that an administrator put there: the reader can read it, and nothing more."""

    @pytest.fixture
    def checkout(self, monkeypatch, tmp_path):
        monkeypatch.delenv("DYHEAD_DATA", raising=False)
        monkeypatch.setenv("DYHEAD_READER", str(tmp_path / "reader"))
        monkeypatch.setattr(paths, "CHECKOUT", tmp_path / "shared")
        (tmp_path / "shared" / "data" / "shapes").mkdir(parents=True)
        monkeypatch.setattr(paths.os, "access", lambda path, how: "reader" in str(path) or path == tmp_path)
        return tmp_path / "shared"

    def test_new_data_goes_to_the_reader(self, checkout):
        assert paths.data_folder("bccd") == paths.reader_folder() / "data" / "bccd"
        assert paths.coco_path() == paths.reader_folder() / "data" / "coco2017"

    def test_data_that_is_there_is_used(self, checkout):
        assert paths.data_folder("shapes") == checkout / "data" / "shapes"

    def test_a_run_that_cannot_be_written_is_refused_before_data_is_looked_for(self, checkout):
        import dyhead_lab

        with pytest.raises(UserError, match=r"cannot write .*runs.quickstart: .* can only be read; choose another"):
            dyhead_lab.train(
                "quickstart", data=checkout / "nowhere", out=checkout / "runs" / "quickstart", progress=False
            )

    def test_a_run_whose_name_is_not_unicode_is_refused_before_data_is_looked_for(self, tmp_path):
        """As ``os.fsdecode`` gives the name of a folder that was written in Latin-1."""
        import dyhead_lab

        with pytest.raises(UserError, match="its name is not encoded as UTF-8"):
            dyhead_lab.train("quickstart", data=tmp_path / "nowhere", out=tmp_path / "caf\udce9", progress=False)

    def test_a_user_without_a_home_is_told_what_to_name(self, monkeypatch):
        monkeypatch.delenv("DYHEAD_READER", raising=False)
        monkeypatch.delenv("XDG_DATA_HOME", raising=False)

        def homeless():
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(paths.Path, "home", homeless)
        with pytest.raises(UserError, match="no home: name a folder with the environment variable DYHEAD_READER"):
            paths.reader_folder()


@pytest.fixture
def installed(monkeypatch):
    """A package that was installed; returns a function that sets what pip kept of its origin."""
    monkeypatch.setattr(remedies, "CHECKOUT", None)

    def record(url, **more):
        text = json.dumps({"url": url, **more})
        monkeypatch.setattr(remedies, "distribution", lambda name: SimpleNamespace(read_text=lambda file: text))

    return record


class TestRemedies:
    def test_a_checkout_has_make_and_git(self):
        assert remedies.repair("torch") == "make repair" and remedies.rebuild() == "make native"
        assert remedies.restore("data/weights") == "git checkout HEAD -- data/weights"

    def test_without_make_the_script_is_named(self, monkeypatch):
        monkeypatch.setattr(remedies.shutil, "which", lambda name: None)
        script = os.path.join("scripts", "bootstrap.py")
        assert remedies.repair("torch") == f"python {script} repair"
        assert remedies.another_python() == f"python3.12 {script} lab"

    def test_an_environment_of_uv_is_told_uvs_command(self, installed, monkeypatch):
        monkeypatch.setattr(remedies.importlib.util, "find_spec", lambda name: None)
        assert remedies.repair("torch") == f"uv pip install --python {sys.executable} --force-reinstall torch"

    def test_an_installed_package_has_the_pip_of_its_python(self, installed):
        installed("file:///dist/dyhead_lab-0.1.0-cp311-abi3-linux_x86_64.whl")
        start = f"{sys.executable} -m pip install --force-reinstall "
        assert remedies.repair("torch", "torchvision") == start + "torch torchvision"
        assert remedies.restore("data/weights") == (
            start + "--no-deps file:///dist/dyhead_lab-0.1.0-cp311-abi3-linux_x86_64.whl"
        )
        first, then = remedies.rebuild().split(" && ")
        assert first == f"{sys.executable} -m pip install 'setuptools>=80'"
        assert then == start + f"--no-deps --no-build-isolation {remedies.SDIST}"

    def test_what_came_from_a_repository_is_built_from_there(self, installed):
        installed("https://host/dyhead_lab.git", vcs_info={"vcs": "git", "commit_id": "abc"})
        assert remedies.rebuild().endswith("--no-build-isolation git+https://host/dyhead_lab.git@abc")

    def test_without_an_address_the_name_is_given(self, installed, monkeypatch):
        def absent(name):
            raise importlib.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(remedies, "distribution", absent)
        assert remedies.restore("x").endswith(f"--no-deps {remedies.NAME}")


def test_weights_are_found_by_path_run_and_name(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "weights.pt").touch()
    assert paths.find_weights(run) == paths.find_weights(run / "weights.pt") == run / "weights.pt"
    assert paths.find_weights("quickstart") == paths.WEIGHTS / "quickstart.pt"
    assert paths.find_weights(tmp_path / "nowhere") is None and paths.find_weights(os.devnull) is None

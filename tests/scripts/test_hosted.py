"""Colab, Kaggle and Binder: the first cell of a chapter brings the library, and every link leads to the repository."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from urllib.parse import quote

import nbformat
import pytest

from dyhead_book import build
from dyhead_book.hosted import is_first_cell, repository
from tests.test_rooms import tracked_files

from .house import ROOT, load

NOTEBOOKS = sorted([*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("notebooks/workbook/*.ipynb")])


def first_cell(path):
    """The code of the cell in a built notebook; None where it has none."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [is_first_cell(cell) for cell in cells] == [True, *[False] * (len(cells) - 1)][: len(cells)], path.name
    return cells[0].source if cells else None


class TestFirstCell:
    def test_every_chapter_with_code_begins_with_it(self):
        found = [code for path in NOTEBOOKS if (code := first_cell(path))]
        assert len(found) > 35 and len(set(found)) == 1

    def test_elsewhere_it_does_nothing(self, monkeypatch, tmp_path):
        for name in ("COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("a program was started"))
        before = list(sys.path)
        exec(first_cell(NOTEBOOKS[0]), {})
        assert sys.path == before and not list(tmp_path.iterdir())

    def test_whoever_builds_the_book_does_not_execute_it(self, tmp_path, monkeypatch):
        monkeypatch.setenv("COLAB_RELEASE_TAG", "built there")  # executed, it would fetch the repository
        source = tmp_path / "c99_example" / "chapter.py"
        source.parent.mkdir()
        source.write_text("# %% [markdown]\n# # Title\n\n# %%\nprint(3)\n", encoding="utf-8")
        _, hosted, code = build.execute(build.book(source), tmp_path).cells
        assert is_first_cell(hosted) and hosted.execution_count is None and code.execution_count == 1

    def test_it_runs_on_a_host_that_has_git_and_no_library_and_the_chapter_begins(self, tmp_path):
        """A repository in a folder stands for the real one; packages are this environment's, but for the library."""
        host = simulated_host(tmp_path)
        chapter = nbformat.read(ROOT / "notebooks" / "00_start_here.ipynb", as_version=4)
        codes = [cell.source for cell in chapter.cells if cell.cell_type == "code"][:2]
        codes[0] = codes[0].replace(repository(), (tmp_path / "repository").as_uri())
        told = host(
            "import importlib.util\nassert importlib.util.find_spec('dyhead_lab') is None",
            *codes,
            "import dyhead_book, dyhead_lab.paths, importlib.metadata\n"
            "print(dyhead_lab.paths.WEIGHTS, importlib.metadata.version('dyhead-lab'))",
        )
        assert "boxes with a score above" in told and f"{tmp_path}/content/dyhead-lab/data/weights 0.1.0" in told
        assert "widgets are enabled" in told
        # A kernel that starts later finds the library, and nothing is installed again.
        again = host(*codes)
        assert "installing" not in again and "boxes with a score above" in again and "widgets are enabled" in again


def simulated_host(place):
    """Runs cells in a new kernel of a Python that has packages, pip and git, but neither the library nor a compiler."""
    source = place / "repository"
    for path in tracked_files():
        copy = source / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-C", source)
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "all")):
        subprocess.run([*git, *words], check=True)
    packages, own = place / "packages", place / "host"
    packages.mkdir()
    for path in Path(sys.modules["nbformat"].__file__).parent.parent.iterdir():
        if "dyhead" not in path.name.lower():
            (packages / path.name).symlink_to(path)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", own], check=True)
    [site] = own.glob("lib/python*/site-packages")
    (site / "packages.pth").write_text(f"{packages}\n", encoding="utf-8")
    (site / "google" / "colab").mkdir(parents=True)
    (site / "google" / "colab" / "output.py").write_text(
        "def enable_custom_widget_manager():\n    print('widgets are enabled')\n", encoding="utf-8"
    )
    programs, folder = place / "programs", place / "content"
    programs.mkdir()
    folder.mkdir()
    for name in ("git", "sh"):
        (programs / name).symlink_to(shutil.which(name))
    kept = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "DYHEAD_DATA")
    }
    environment = kept | {"PATH": str(programs), "COLAB_RELEASE_TAG": "1", "DYHEAD_CUDA": "0"}

    def run(*cells):
        (place / "cells.py").write_text("\n".join(f"exec({cell!r}, globals())" for cell in cells), encoding="utf-8")
        command = [own / "bin" / "python", place / "cells.py"]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


@pytest.fixture
def hosted(monkeypatch):
    """``scripts/hosted.py`` on a host without the library; programs are noted instead of run."""
    module = load("hosted")
    module.called = []
    module.status = 0
    monkeypatch.setattr(module, "run", lambda *command, **_: module.called.append(command) or module.status)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    return module


class TestPrepare:
    def test_the_hosts_own_front_end_is_left_alone(self, hosted):
        hosted.prepare()
        words = [word for command in hosted.called for word in command]
        assert not [word for word in words if word.startswith(hosted.FRONT_END)]
        assert "anywidget>=0.11" in words and "torch>=2.11" in words and "setuptools>=80" in words
        assert sys.path[:2] == [str(ROOT), str(ROOT / "notebooks")]

    def test_where_the_library_is_nothing_is_installed(self, hosted, monkeypatch):
        monkeypatch.setattr(hosted.importlib.util, "find_spec", lambda name: object())
        hosted.prepare()
        assert hosted.called == []

    def test_only_the_gpu_that_is_there_is_compiled_for(self, hosted, monkeypatch):
        monkeypatch.setattr(hosted.shutil, "which", lambda name: name)
        monkeypatch.setattr(hosted.subprocess, "run", lambda *a, **k: SimpleNamespace(stdout="7.5\n7.5\n"))
        assert hosted.architecture() == "75"

    def test_packages_that_cannot_be_installed_are_told_with_the_remedy(self, hosted):
        hosted.status = 1
        with pytest.raises(RuntimeError, match="Internet must be on"):
            hosted.prepare()

    def test_a_kernel_with_old_packages_in_it_is_to_be_restarted(self, hosted, monkeypatch):
        loaded = ModuleType("PIL")
        loaded.__version__ = "1.0"
        monkeypatch.setitem(sys.modules, "PIL", loaded)
        with pytest.raises(RuntimeError, match=r"^pillow became newer .* Restart"):
            hosted.prepare()
        assert hosted.called[-1][-2] == "--editable", "the kernel that starts next finds the library"

    def test_what_a_program_says_is_printed_by_the_kernel(self, capsys):
        code = "import os, sys\nprint(*map(os.getenv, 'AB'))\nprint('second', file=sys.stderr)\nsys.exit(3)"
        assert load("hosted").run(sys.executable, "-c", code, A="first", B=None) == 3
        assert sorted(capsys.readouterr().out.split()) == ["None", "first", "second"]


class TestLinks:
    def test_every_chapter_can_be_opened_and_every_link_leads_to_a_file(self):
        told = (ROOT / "guide" / "hosted.md").read_text(encoding="utf-8")
        places = re.findall(r"(?:colab\S+?|kaggle\S+?)/blob/main/([^)\s]+)\)", told)
        wanted = [str(path.relative_to(ROOT)) for path in NOTEBOOKS if first_cell(path)]
        assert sorted(places) == sorted(wanted * 2)

    def test_badges_of_the_three_sites_open_the_first_chapter(self):
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        badges = re.findall(r"^\[!\[Open in (\w+)\]\(\S+\)\]\((\S+)\)$", readme, re.MULTILINE)
        assert [name for name, _ in badges] == ["Colab", "Kaggle", "Binder"]
        assert all(link.endswith("notebooks/00_start_here.ipynb") and link == quote(link, ":/?=") for _, link in badges)

    def test_one_command_changes_the_address_wherever_it_stands(self, tmp_path):
        tool = load("repository")
        old = tool.repository(ROOT)
        for path in tracked_files():
            if path.suffix in (".md", ".ipynb", ".toml"):
                copy = tmp_path / path.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, copy)
        changed = tool.move(tmp_path, "somebody/book.of_theirs")
        assert tool.repository(tmp_path) == "somebody/book.of_theirs"
        assert len(changed) == len([path for path in NOTEBOOKS if first_cell(path)]) + 3
        assert not [path for path in tmp_path.rglob("*.*") if old in path.read_text(encoding="utf-8")]
        tool.move(tmp_path, old)
        assert all(path.read_bytes() == (ROOT / path.relative_to(tmp_path)).read_bytes() for path in changed)

    def test_the_address_is_written_by_hand_in_one_place(self):
        tool = load("repository")
        derived = {"README.md", "guide/hosted.md"}
        found = {
            str(path.relative_to(ROOT))
            for path in tracked_files()
            if path.suffix in (".py", ".md", ".toml", ".yml", ".json", ".cfg", "")
            and tool.repository(ROOT) in path.read_text(encoding="utf-8", errors="replace")
        }
        assert found - derived == {"pyproject.toml"}

    @pytest.mark.parametrize("address", ["https://gitlab.com/a/b", "a/b", "https://github.com/a"])
    def test_what_the_three_sites_cannot_open_is_refused(self, address, capsys):
        with pytest.raises(SystemExit):
            load("repository").main([address])
        assert "no repository on GitHub" in capsys.readouterr().err


def test_the_first_cell_reads_as_python_of_the_oldest_version():
    ast.parse(first_cell(NOTEBOOKS[0]), feature_version=(3, 11))

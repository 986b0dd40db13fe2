"""The sdist is whole, and a wheel built from it works in another folder without writing into what it installed.

The package is installed into a folder of its own that comes before everything else on the path; torch and the others
are those of this environment. The quick tests build without a compiler, as on a machine that has none.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.test_rooms import tracked_files

ROOT = Path(__file__).resolve().parent.parent
NOT_SHIPPED = {".gitignore", ".ci/run"}

pytest.importorskip("pip")

#: Groups the tests of this file on one worker: what they share takes a while to build.
pytestmark = pytest.mark.xdist_group("wheel")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder for all that these tests make."""
    return tmp_path_factory.mktemp("wheel")


@pytest.fixture(scope="module")
def sdist(place):
    """The sdist of a copy of the sources: building in place would leave files, and libraries without CUDA."""
    copy = place / "sources"
    for path in tracked_files():
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    code = f"import setuptools.build_meta as backend; backend.build_sdist({str(place)!r})"
    run(sys.executable, "-c", code, cwd=copy, env=clean())
    [path] = place.glob("*.tar.gz")
    return path


def clean(**more):
    """This environment without what leads to the checkout or changes a build."""
    for_a_build = ("CXX", "CUDA_HOME", "CUDA_PATH", "DYHEAD_CUDA_ARCHS")
    names = ("PYTHONPATH", "DYHEAD_DATA", "DYHEAD_READER", "DYHEAD_EMULATOR", *for_a_build)
    return {name: value for name, value in os.environ.items() if name not in names} | {"DYHEAD_CUDA": "0"} | more


def run(*command, cwd, env):
    """What a command prints; its whole output where it fails."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def install(place, sdist, env):
    """Build a wheel of the sdist, install it into a folder; return both, and how to run things there."""
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir")
    run(*pip, "wheel", "--no-build-isolation", "--no-deps", "-w", place / "dist", sdist, cwd=place, env=env)
    [wheel] = (place / "dist").glob("*.whl")
    target, elsewhere = place / "installed", place / "elsewhere"
    run(*pip, "install", "--no-deps", "--no-index", "--target", target, wheel, cwd=place, env=env)
    elsewhere.mkdir()
    there = clean(PYTHONPATH=str(target), HOME=str(place / "home"), XDG_DATA_HOME=str(place / "reader"))
    before = listing(target)

    def call(*command):
        told = run(*command, cwd=elsewhere, env=there)
        assert listing(target) == before, "a command wrote into the installed package"
        return told

    return SimpleNamespace(
        wheel=wheel,
        folder=elsewhere,
        reader=place / "reader" / "dyhead_lab",
        package=target / "dyhead_lab",
        python=lambda code: call(sys.executable, "-c", code),
        command=lambda *words: call(sys.executable, "-m", "dyhead_lab.cli", *words),
    )


def listing(folder):
    """Every file with its time, but for what Python and Numba compile: they keep it beside the sources."""
    return {
        path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and "__pycache__" not in str(path)
    }


@pytest.fixture(scope="module")
def installed(place, sdist):
    """A wheel built where no compiler is found."""
    (place / "no compilers").mkdir()
    return install(place, sdist, clean(PATH=str(place / "no compilers")))


def test_the_sdist_holds_every_file_of_the_repository(sdist):
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {str(path.relative_to(ROOT)) for path in tracked_files()}
    assert wanted - held == NOT_SHIPPED
    assert not [name for name in held if name.startswith("dyhead_lab/ops/lib/") or name.endswith(".pyc")]


def test_the_wheel_holds_what_the_project_ships(installed):
    assert installed.wheel.name.split("-")[2:4] == ["cp311", "abi3"]  # one wheel for Python 3.11 and later
    with zipfile.ZipFile(installed.wheel) as archive:
        held = set(archive.namelist())
    shipped = [
        path.relative_to(ROOT)
        for path in tracked_files()
        if path.parent in (ROOT / "data/weights", ROOT / "data/sample")
        or path.is_relative_to(ROOT / "csrc")
        or (path.is_relative_to(ROOT / "notebooks") and path.suffix in (".ipynb", ".svg"))
    ]
    assert len(shipped) > 60
    assert {f"dyhead_lab/shipped/{path.as_posix()}" for path in shipped} <= held
    code = [path.relative_to(ROOT).as_posix() for path in tracked_files() if path.is_relative_to(ROOT / "dyhead_lab")]
    book = [path.relative_to(ROOT / "notebooks") for path in tracked_files() if "dyhead_book" in path.parts[:-1]]
    assert {*code, *(path.as_posix() for path in book if path.parts[0] == "dyhead_book")} <= held
    assert not [name for name in held if name.startswith(("tests/", "build/")) or name.endswith(".stamp")]


def test_the_doctor_finds_it_usable_and_names_no_command_of_a_checkout(installed):
    told = installed.command("doctor")
    assert told.endswith("The lab is usable.\n")
    assert "make " not in told and "git checkout" not in told
    assert (
        f"pip install --force-reinstall --no-deps --no-build-isolation {sdist_name(installed)}" in told
    )  # no compiler
    assert str(installed.reader / "data" / "coco2017") in told


def sdist_name(installed):
    return "-".join(installed.wheel.name.split("-")[:2]) + ".tar.gz"


def test_a_picture_is_looked_at(installed):
    picture = installed.package / "shipped" / "data" / "sample" / "detections.png"
    assert "best" in installed.command("detect", str(picture), "--out", "found")
    assert (installed.folder / "found" / "detections.png").is_file()


def test_shipped_weights_are_evaluated_on_data_in_the_readers_folder(installed):
    """A small set lies where the whole one would be drawn, which takes half a minute."""
    installed.command("data", "shapes", "--images", "4", "--out", str(installed.reader / "data" / "shapes" / "val"))
    told = installed.command("eval", "quickstart")
    assert "(4 images)" in told and "AP50" in told


def test_the_book_is_written_as_a_site_and_as_notebooks(installed):
    assert "open site" in installed.command("book")
    assert (installed.folder / "site" / "00_start_here.html").is_file()
    installed.command("book", "--notebooks", "--out", "chapters")
    assert (installed.folder / "chapters" / "00_start_here.ipynb").is_file()
    assert (installed.folder / "chapters" / "diagrams" / "scale_gate.svg").is_file()
    installed.python("from dyhead_book.workbook import Workbook\nWorkbook('02_scale_aware', {})")


def test_records_logs_and_sources_are_found(installed):
    installed.command("experiment", "ablation", "--show")
    installed.python(
        "from dyhead_lab.ops.bench.table import recorded\n"
        "from dyhead_lab.paths import CSRC\n"
        "from dyhead_lab.views.live import replay\n"
        "assert recorded('cpu') and replay().iteration and (CSRC / 'deform_conv' / 'simple.cuh').is_file()"
    )


def test_a_detector_is_trained(installed):
    installed.command("data", "shapes", "--images", "4", "--out", "small/train")
    installed.command("data", "shapes", "--images", "2", "--seed", "1", "--out", "small/val")
    installed.python("import dyhead_lab; dyhead_lab.train('quickstart', data='small', iterations=2, batch_size=2)")
    assert (installed.folder / "runs" / "quickstart" / "weights.pt").is_file()


@pytest.mark.slow
def test_with_a_compiler_the_kernels_are_there_and_shapes_is_drawn_for_the_reader(tmp_path, sdist):
    if not (shutil.which("c++") or shutil.which("g++")):
        pytest.skip("no C++ compiler")
    installed = install(tmp_path, sdist, clean())
    installed.python("from dyhead_lab.ops import native; assert native.available('emulated'); native.debug_operators()")
    told = installed.command("eval", "quickstart")
    assert "(500 images)" in told
    assert (installed.reader / "data" / "shapes" / "val" / "annotations.json").is_file()
    [ap] = re.findall(r"^AP +(\d\.\d+) ", told, re.MULTILINE)
    assert float(ap) == pytest.approx(0.419, abs=0.001)  # README states both

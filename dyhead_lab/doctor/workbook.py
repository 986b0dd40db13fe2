"""The workbook: the packages that its chapters lean on, and its data."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from ..paths import CHECKOUT, WEIGHTS, coco_path
from ..platforms import install
from ..remedies import repair, restore
from .check import Broken, Missing, check, installed, one_line, specifier

# Packages


@check("Numba", repair("numba"), needed=True)
def numba() -> str:
    installed("numba")
    import numba

    if numba.njit(lambda x: x + 1)(1) != 2:
        raise Broken("a compiled 1 + 1 is not 2")
    from ..ops.cpu.threads import team

    return f"{numba.__version__}, kernels on {team(items=1_000_000)} threads"


@check("JupyterLab", repair("jupyterlab"), needed=True)
def jupyterlab() -> str:
    found = installed("jupyterlab")
    if shutil.which("jupyter", path=str(Path(sys.executable).parent)) is None:
        raise Broken(f"{found} is installed, but its command jupyter is not")
    return found


@check("widgets", repair("ipywidgets", "jupyterlab_widgets", "anywidget"), needed=True)
def widgets() -> str:
    found = {name: installed(name) for name in ("ipywidgets", "jupyterlab_widgets", "anywidget")}
    for package, part in (("ipywidgets", "jupyterlab_widgets"), ("anywidget", "ipywidgets")):
        expected = specifier(package, part)
        if not expected.contains(found[part]):
            raise Broken(f"{package} {found[package]} needs {part}{expected}, but {part} is {found[part]}")
    from jupyter_core.paths import jupyter_path

    for extension in ("@jupyter-widgets/jupyterlab-manager", "anywidget"):
        if not any((Path(folder) / extension).is_dir() for folder in jupyter_path("labextensions")):
            raise Broken(f"JupyterLab does not find the extension {extension}")
    return ", ".join(f"{name} {number}" for name, number in found.items())


@check("Chromium", install("browser"))
def chromium() -> str:
    path = shutil.which("chromium")
    if path is None:
        if CHECKOUT is None:
            return "not needed, only the tests of a checkout use it"
        raise Missing("not on PATH; the browser tests are skipped")
    return path


# Data


@check("sample data", restore("dyhead_lab"), needed=True)
def sample_data() -> str:
    from ..data.shapes import draw_image

    height, width = draw_image(0, 0)[0].shape[:2]
    return f"Shapes draws images of {height} x {width} pixels"


@check("trained weights", restore("data/weights"), needed=True)
def weights() -> str:
    try:
        from ..zoo import load_trained
    except Exception as error:  # as where torch and torchvision do not fit: the files are not to blame
        reason = one_line(f"{type(error).__name__}: {error}")
        raise Broken(f"nothing can read them ({reason})", repair("torch", "torchvision")) from error
    path = WEIGHTS / "quickstart.pt"
    if not path.is_file():
        raise Missing(f"no {short(path)}")
    parameters = sum(p.numel() for p in load_trained(path).model.parameters())
    return f"{short(path)}, {parameters:,} parameters"


@check("COCO", "dyhead-lab data coco")
def coco() -> str:
    folder = coco_path()
    remedy = f"dyhead-lab data coco --out {shlex.quote(short(folder))}"
    if not folder.is_dir():
        raise Missing(f"no {short(folder)}; it takes 20 GB", remedy)
    parts = ["annotations/instances_train2017.json", "annotations/instances_val2017.json", "train2017", "val2017"]
    absent = [part for part in parts if not (folder / part).exists()]
    if absent:
        raise Missing(f"{short(folder)} lacks {', '.join(absent)}", remedy)
    return short(folder)


def short(path: Path) -> str:
    """A path as seen from where the command runs, if it lies there."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)

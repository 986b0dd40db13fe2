"""The workbook: the packages that its chapters lean on, and its data."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from ..paths import COCO, REPOSITORY, WEIGHTS
from .check import REPAIR, Broken, Missing, check, installed, specifier

# Packages


@check("Numba", REPAIR, needed=True)
def numba() -> str:
    installed("numba")
    import numba

    if numba.njit(lambda x: x + 1)(1) != 2:
        raise Broken("a compiled 1 + 1 is not 2")
    from ..ops.cpu.threads import team

    helpers = team(items=1_000_000)
    whose = "PyTorch's" if helpers.openmp else "Numba's"
    return f"{numba.__version__}, kernels on {helpers.threads} of {whose} threads, {os.cpu_count()} processors"


@check("JupyterLab", REPAIR, needed=True)
def jupyterlab() -> str:
    found = installed("jupyterlab")
    if shutil.which("jupyter", path=str(Path(sys.executable).parent)) is None:
        raise Broken(f"{found} is installed, but its command jupyter is not")
    return found


@check("widgets", REPAIR, needed=True)
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


@check("Chromium", "sudo apt-get install chromium")
def chromium() -> str:
    path = shutil.which("chromium")
    if path is None:
        raise Missing("not on PATH; the browser tests are skipped")
    return path


# Data


@check("sample data", "git checkout HEAD -- dyhead_lab", needed=True)
def sample_data() -> str:
    from ..data.shapes import draw_image

    height, width = draw_image(0, 0)[0].shape[:2]
    return f"Shapes draws images of {height} x {width} pixels"


@check("trained weights", "git checkout HEAD -- data/weights", needed=True)
def weights() -> str:
    from ..zoo import load_trained

    path = WEIGHTS / "quickstart.pt"
    if not path.is_file():
        raise Missing(f"no {short(path)}")
    parameters = sum(p.numel() for p in load_trained(path).model.parameters())
    return f"{short(path)}, {parameters:,} parameters"


@check("COCO", f"dyhead-lab data coco --out {COCO.relative_to(REPOSITORY)}")
def coco() -> str:
    if not COCO.is_dir():
        raise Missing(f"no {short(COCO)}; it takes 20 GB")
    parts = ["annotations/instances_train2017.json", "annotations/instances_val2017.json", "train2017", "val2017"]
    absent = [part for part in parts if not (COCO / part).exists()]
    if absent:
        raise Missing(f"{short(COCO)} lacks {', '.join(absent)}")
    return short(COCO)


def short(path: Path) -> str:
    """A path as seen from the repository."""
    return str(path.relative_to(REPOSITORY))

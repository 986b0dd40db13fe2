"""Bring the library to a hosted notebook, such as Colab's and Kaggle's: the first cell of each chapter calls this.

The packages of such a host stay as they are where they are new enough; its own front end is never touched: Colab shows
widgets of its own version of ipywidgets alone. Needs the standard library only.
"""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: What belongs to the host's front end.
FRONT_END = ("jupyterlab", "ipywidgets")
#: Packages whose module has another name.
MODULES = {"pillow": "PIL", "pyyaml": "yaml", "scikit-image": "skimage"}


def prepare():
    """Install what is missing, build the native code, and let this kernel find the library.

    Raises:
        RuntimeError: packages could not be installed, or this kernel must be started again to see the new ones.
    """
    if importlib.util.find_spec("dyhead_book") is None:
        say("installing what is missing here")
        needs = requirements()
        pip("--quiet", *needs)
        must_restart = stale(needs)
        say("building the native code, a minute or two")
        if run(sys.executable, str(ROOT / "csrc" / "build.py"), DYHEAD_CUDA_ARCHS=architecture()) != 0:
            say("it was not built; chapters do without it and say so")
        pip("--quiet", "--no-build-isolation", "--no-deps", "--editable", str(ROOT))
        if must_restart:
            raise RuntimeError(
                f"{', '.join(must_restart)} became newer than what this kernel has loaded. Restart it (on Colab: "
                "Runtime > Restart session), then run all cells again."
            )
        # An installation is found by kernels that start after it.
        sys.path[:0] = [str(ROOT), str(ROOT / "notebooks")]
        importlib.invalidate_caches()
    enable_widgets()
    say(f"the library is here: {ROOT}")


def requirements():
    """What pyproject.toml names to build and to run, without what belongs to the front end."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    named = [*pyproject["build-system"]["requires"], *pyproject["project"]["dependencies"]]
    return [text for text in dict.fromkeys(named) if name_of(text) not in FRONT_END]


def name_of(requirement):
    return re.match(r"[\w.-]+", requirement)[0].lower()


def stale(needs):
    """Names of packages of which this kernel has loaded another version than is installed now."""
    found = []
    for name in dict.fromkeys(map(name_of, needs)):
        loaded = getattr(sys.modules.get(MODULES.get(name, name)), "__version__", None)
        if name == "setuptools" or not loaded:  # pip runs setuptools in a process of its own
            continue
        if public(loaded) != public(importlib.metadata.version(name)):
            found.append(name)
    return found


def public(version):
    """Without what a build adds: torch calls itself 2.11.0+cu130 where its package may not."""
    return str(version).partition("+")[0]


def architecture():
    """That of the GPU as nvcc names it, such as "75" for a T4; None where there is none. All of them take minutes."""
    if not shutil.which("nvidia-smi"):
        return None
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return told[0].replace(".", "") if told else None


def enable_widgets():
    """Let Colab show the explorers: widgets that are not its own are shown only where a notebook asks for it."""
    if "COLAB_RELEASE_TAG" in os.environ:
        from google.colab import output

        output.enable_custom_widget_manager()


def pip(*arguments):
    if run(sys.executable, "-m", "pip", "install", "--disable-pip-version-check", *arguments) != 0:
        raise RuntimeError(
            "the packages could not be installed; the reason stands above. On Kaggle, Internet must be on in the "
            "settings of the notebook."
        )


def run(*command, **variables):
    """Run a program and print what it says, as it says it: a notebook shows only what its kernel prints.

    Returns its exit status. Variables of its environment that are None are left out.
    """
    environment = {**os.environ, **{name: value for name, value in variables.items() if value}}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    )
    for line in process.stdout:
        print(line, end="", flush=True)
    return process.wait()


def say(text):
    print("[hosted] " + text, flush=True)

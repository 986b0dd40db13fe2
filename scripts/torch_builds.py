"""Which builds of torch an environment gets, and from where. The standard library only.

Its syntax is old on purpose, see ``bootstrap.py``.
"""

import subprocess
import sys

import environment

#: A file in .venv: which builds of torch it was made with.
MARKER = "torch.builds"
#: What uv is told in order to take builds for the CPU from where PyTorch keeps them.
UV_KNOWS = "--torch-backend"
#: What an installer is told in order to look into one more index, and uv in order to take the best version of both:
#: PyTorch's index also has old versions of packages that it needs, and uv would look for those nowhere else.
INDEX, UV_TAKES_BEST = "--extra-index-url", ("--index-strategy", "unsafe-best-match")
CONSTRAINTS = ("constraints.txt", "constraints-cuda.txt")
#: By the builds of torch, on Linux: the environment, and its wheels while pip unpacks them. Measured with CUDA; for the
#: CPU what is left of that without CUDA's packages.
SIZES_GB = {"default": (6.3, 2.5), "cpu": (2.5, 0.8)}


def of(venv):
    """Which builds of torch ``venv`` was made with: a name in ``SIZES_GB``, or None where it holds no torch."""
    marker = venv / MARKER
    if marker.is_file():
        return marker.read_text(encoding="utf-8").split()[0]
    return "default" if any((folder / "torch").is_dir() for folder in environment.site_packages(venv)) else None


def remember(venv, torch, index):
    """Write down which builds ``venv`` gets and from where; return the address, which may be that of before."""
    marker = venv / MARKER
    words = marker.read_text(encoding="utf-8").split() if marker.is_file() else []
    index = index or (words[1] if torch == "cpu" and len(words) > 1 else None)
    marker.write_text(" ".join([torch, *([index] if index else [])]), encoding="utf-8")
    return index


def constraints(torch):
    """The files of constraints that these builds need."""
    return CONSTRAINTS if sizes_gb(torch) == SIZES_GB["default"] else CONSTRAINTS[:1]


def sizes_gb(torch):
    """(environment, wheels): on macOS and Windows the builds that pip takes by itself are for the CPU."""
    return SIZES_GB[torch if sys.platform == "linux" else "cpu"]


def options(root, torch, index):
    """What an installer is told in order to take the wanted builds of torch and torchvision from one place."""
    if torch == "default" or sys.platform != "linux":
        return []
    if not index:
        return [UV_KNOWS, "cpu"]
    lines = (root / CONSTRAINTS[0]).read_text(encoding="utf-8").splitlines()
    pair = [line + "+cpu" for line in lines if line.partition("==")[0] in ("torch", "torchvision")]
    return [INDEX, index, *pair]


def loads(venv):
    """Whether torch and torchvision are there, load, and are builds of one kind."""
    probe = "import sys, torch, torchvision; own = getattr(torchvision.version, 'cuda', None); "
    probe += "sys.exit(bool(own) != bool(torch.version.cuda))"
    command, nowhere = [environment.venv_python(venv), "-c", probe], subprocess.DEVNULL
    return subprocess.call(command, stdout=nowhere, stderr=nowhere) == 0


def remove(root, venv):
    """Remove torch and all that only builds with CUDA need: "2.11.0+cpu" counts as 2.11.0, and would stay."""
    environment.say("removing the builds of torch that are there")
    pins = (root / CONSTRAINTS[1]).read_text(encoding="utf-8").splitlines()
    names = [pin.partition("==")[0] for pin in pins if "==" in pin]
    command = environment.installer(venv)
    at = command.index("install")
    yes = ["--yes"] if environment.has_pip(venv) else []  # uv does not ask
    environment.call([*command[:at], "uninstall", *command[at + 1 :], *yes, "torch", "torchvision", *names])

"""Make the environment of this project, ``.venv`` with the pinned packages and the native code, and open the book.

``python scripts/bootstrap.py lab`` does what ``make lab`` does, on Linux, macOS and Windows: ``make`` calls this before
everything else that it does. It uses the standard library only, and its syntax is old on purpose: an old Python must be
able to read it in order to be told that it is too old.

What is done is remembered in two stamps inside ``.venv``, each a hash of what the step depends on. A step
whose stamp still fits is skipped, so the second call takes a fraction of a second. A stamp is written only
when its step has ended well, so an interrupted call is continued by the next one.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import environment
import torch_builds

ROOT = Path(__file__).resolve().parent.parent

#: A handful of small packages: asked for when the environment is nearly complete.
LEAST_GB = 0.5

#: What this project's JupyterLab does otherwise than by default.
LAB_SETTINGS = {"@jupyter-widgets/jupyterlab-manager:plugin": {"saveState": True}}


COMMANDS = {
    "setup": "make or refresh .venv",
    "lab": "then open the book in JupyterLab; further arguments go to JupyterLab",
    "doctor": "then say what works on this machine",
    "native": "build the native code anew, after a compiler was installed",
    "repair": "check every package and install anew what is missing or changed",
}


def main(argv=None, root=ROOT):
    """Make or refresh the environment, and start what is asked for. Returns the exit status."""
    lines = [f"  {name:8} {text}" for name, text in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        description="Make .venv with the pinned packages and the native code.",
        epilog="commands:\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("command", nargs="?", default="setup", choices=list(COMMANDS), metavar="COMMAND")
    parser.add_argument(
        "--torch",
        choices=list(torch_builds.SIZES_GB),
        help="builds of torch: cpu is small, for machines without an NVIDIA GPU; default is what pip takes by itself; "
        "remembered in .venv",
    )
    parser.add_argument(
        "--torch-index",
        metavar="ADDRESS",
        help="where builds for the CPU lie, as PyTorch's own instructions or your mirror say (default: uv knows)",
    )
    args, others = parser.parse_known_args(argv)
    if others and args.command != "lab":
        parser.error("unrecognized arguments: " + " ".join(others))
    try:
        check_python(sys.version_info[:2])
        set_up(root, args.torch, args.torch_index, repair=args.command == "repair", native=args.command == "native")
        if args.command == "lab":
            return start_lab(root, others)
        if args.command == "doctor":
            return start([environment.venv_python(root / ".venv"), "-m", "dyhead_lab.cli", "doctor"], root)
    except environment.SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command continues where this one stopped", file=sys.stderr)
        return 130
    return 0


def set_up(root, torch=None, torch_index=None, repair=False, native=False):
    """Bring ``root/.venv`` to the state that constraints, pyproject and sources ask for.

    ``torch`` names its builds, as in ``SIZES_GB``; None leaves those that are there.
    """
    venv = root / ".venv"
    torch = torch or torch_builds.of(venv) or "default"
    make_venv(venv, torch, asked_for="PYTHON" in os.environ)
    before = torch_builds.of(venv)
    packages = Stamp(venv / "packages.stamp", packages_fingerprint(root, venv, torch))
    if repair or not packages.fits():
        packages.clear()
        if before not in (None, torch) or (repair and not torch_builds.loads(venv)):
            torch_builds.remove(root, venv)
        torch_index = torch_builds.remember(venv, torch, torch_index)
        install_packages(root, venv, torch, torch_index)
        packages.write()
    library = Stamp(venv / "native.stamp", native_fingerprint(root, packages.fingerprint))
    if repair or native or not library.fits():
        library.clear()
        build_native(root, venv)
        library.write()
    configure_lab(venv)
    environment.say("ready: .venv with Python {}.{}".format(*environment.venv_version(venv)))


def start_lab(root, arguments):
    """Open the book in JupyterLab. Returns its exit status."""
    command = [environment.venv_python(root / ".venv"), "-m", "jupyterlab", f"--ServerApp.root_dir={root}"]
    command.append("--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb")
    if environment.platforms().is_root():
        command.append("--allow-root")
    return start([*command, *arguments], root)


def start(command, root):
    """Run a program of the environment, which then finds the others by name. Returns its exit status."""
    programs = environment.platforms().programs_folder(root / ".venv")
    path = os.pathsep.join([str(programs), os.environ.get("PATH", "")])
    process = subprocess.Popen(command, cwd=str(root), env=dict(os.environ, PATH=path))
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # the program got it as well, and may ask


# Python


def check_python(version):
    """Refuse a Python that is too old, and name a newer one if this machine has it."""
    if version >= environment.OLDEST_PYTHON:
        return
    message = "Python {}.{} is too old; this project needs Python {}.{} or newer. ".format(
        *(tuple(version) + environment.OLDEST_PYTHON)
    )
    newer = [f"python3.{minor}" for minor in range(14, environment.OLDEST_PYTHON[1] - 1, -1)]
    found = next((name for name in newer if shutil.which(name)), None)
    if found:
        raise environment.SetupError(message + f"This machine has {found}: run make with PYTHON={found}.")
    raise environment.SetupError(message + "Install one, then run make with PYTHON=/path/to/python3.")


def make_venv(venv, torch, asked_for):
    """Create ``venv`` with the running Python, unless a working one is there.

    A working environment stays, whatever ``python3`` is today. Only a version that the user asked for by name
    (``make lab PYTHON=python3.12``) replaces it.
    """
    running = tuple(sys.version_info[:2])
    version = environment.venv_version(venv)
    if version and (version == running or not asked_for):
        return
    if version:
        environment.say(".venv holds Python {}.{}; making it anew with {}.{}".format(*(version + running)))
    else:
        environment.say("creating .venv with Python {}.{}".format(*running))
    try:
        import ensurepip  # noqa: F401  (Debian ships Python without it)
    except ImportError:
        raise environment.SetupError(
            "this Python cannot create environments (no ensurepip). Run: sudo apt-get install python3-venv"
        ) from None
    sizes_gb = torch_builds.sizes_gb(torch)
    environment.check_disk(venv, sizes_gb, missing_gb=sizes_gb[0], freed_gb=environment.size_gb(venv))
    if environment.call([sys.executable, "-m", "venv", "--clear", str(venv)]) != 0:
        raise environment.SetupError(f"{sys.executable} -m venv failed; its message stands above")


# Packages


def install_packages(root, venv, torch, torch_index):
    """Install what pyproject.toml names, at the versions that the files of constraints name."""
    with environment.temporary_folder(venv / "tmp") as temporary:
        for name in environment.drop_half_installed(venv):
            environment.say(f"{name} was installed only in part; it is installed again")
        sizes_gb = torch_builds.sizes_gb(torch)
        missing_gb = max(sizes_gb[0] - environment.size_gb(venv), LEAST_GB)
        room_for_cache = environment.check_disk(venv, sizes_gb, missing_gb)
        environment.say(f"installing packages; the first time this downloads about {sizes_gb[1]:.1f} GB")
        builds = torch_builds.options(root, torch, torch_index)
        command = environment.installer(venv, needs_uv=torch_builds.UV_KNOWS in builds)
        if not room_for_cache:
            environment.say("little disk space is left: what is downloaded is not kept")
            command.append("--no-cache-dir")
        for name in torch_builds.constraints(torch):
            command += ["--constraint", str(root / name)]
        if torch_builds.INDEX in builds and environment.is_uv(command):
            command += torch_builds.UV_TAKES_BEST
        command += [*builds, *requirements(root)]
        folders = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))
        status = environment.call(command, dict(os.environ, **folders))
    if status != 0:
        raise environment.SetupError(
            "the packages could not be installed; the reason stands above. "
            "The same command continues: what is installed stays."
        )


def configure_lab(venv):
    """Let JupyterLab save widgets with a notebook: opened again without a kernel, they are seen instead of an error."""
    settings = venv / "share" / "jupyter" / "lab" / "settings"
    settings.mkdir(parents=True, exist_ok=True)
    (settings / "overrides.json").write_text(json.dumps(LAB_SETTINGS, indent=1) + "\n", encoding="utf-8")


def requirements(root):
    """Every requirement in pyproject.toml: to build, to run, and all extras."""
    import tomllib  # Python 3.11

    with open(root / "pyproject.toml", "rb") as file:
        pyproject = tomllib.load(file)
    project = pyproject["project"]
    extras = project.get("optional-dependencies", {})
    groups = [pyproject["build-system"]["requires"], project["dependencies"], *extras.values()]
    return list(dict.fromkeys(requirement for group in groups for requirement in group))


# Native code


def build_native(root, venv):
    """Build what the machine's compilers can build, and install the project itself in place."""
    environment.say("building the native code: a minute or two, and several more where CUDA kernels are compiled")
    # setup.py would do this too, but pip shows nothing of it until all is over.
    if environment.call([environment.venv_python(venv), str(root / "csrc" / "build.py")]) != 0:
        raise environment.SetupError("the native code could not be built; the reason stands above")
    options = ["--quiet", "--no-build-isolation", "--no-deps", "--editable", str(root)]
    if environment.call([*environment.installer(venv), *options]) != 0:
        raise environment.SetupError("the project could not be installed in .venv; the reason stands above")


# Stamps


class Stamp:
    """A file that says with what fingerprint a step last ended well."""

    def __init__(self, path, fingerprint):
        self.path = path
        self.fingerprint = fingerprint

    def fits(self):
        return self.path.is_file() and self.path.read_text(encoding="utf-8") == self.fingerprint

    def clear(self):
        if self.path.exists():
            self.path.unlink()

    def write(self):
        self.path.write_text(self.fingerprint, encoding="utf-8")


def packages_fingerprint(root, venv, torch):
    """What the installed packages depend on: pins, requirements, the environment's Python, the builds of torch."""
    files = [root / name for name in (*torch_builds.CONSTRAINTS, "pyproject.toml")]
    return fingerprint(files, environment.venv_version(venv), torch)


def native_fingerprint(root, packages):
    """What the built libraries depend on: sources, compilers, the packages (torch above all)."""
    sources = sorted(path for path in (root / "csrc").glob("**/*") if path.is_file())
    compilers = [shutil.which(name) for name in ("c++", "g++", "nvcc")]
    settings = [os.environ.get(name) for name in ("CXX", "CUDA_HOME", "CUDA_PATH", "DYHEAD_CUDA", "DYHEAD_CUDA_ARCHS")]
    return fingerprint([root / "setup.py", *sources], packages, compilers, settings)


def fingerprint(files, *values):
    """A hash of the contents of ``files`` and of ``values``."""
    digest = hashlib.sha256()
    for path in files:
        content = path.read_bytes() if path.is_file() else b""
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    digest.update(repr(values).encode())
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())

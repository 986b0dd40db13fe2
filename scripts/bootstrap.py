"""Make the environment of this project: ``.venv``, the pinned packages, the native code.

``make`` calls this before everything else that it does. It uses the standard library only, and its syntax is
old on purpose: an old Python must be able to read it in order to be told that it is too old.

What is done is remembered in two stamps inside ``.venv``, each a hash of what the step depends on. A step
whose stamp still fits is skipped, so the second call takes a fraction of a second. A stamp is written only
when its step has ended well, so an interrupted call is continued by the next one.
"""

import argparse
import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 11)

GB = 1e9
#: Measured on Linux with the CUDA build of torch: the environment, and its wheels while pip unpacks them.
ENVIRONMENT_GB = 6.3
WHEELS_GB = 2.5
#: A handful of small packages: asked for when the environment is nearly complete.
LEAST_GB = 0.5

#: What this project's JupyterLab does otherwise than by default.
LAB_SETTINGS = {"@jupyter-widgets/jupyterlab-manager:plugin": {"saveState": True}}


class SetupError(Exception):
    """The environment cannot be made; the message says why and what to do."""


def main(argv=None, root=ROOT):
    """Make or refresh the environment. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Make .venv with the pinned packages and the native code.")
    parser.add_argument("--repair", action="store_true", help="check and install everything anew")
    parser.add_argument("--native", action="store_true", help="build the native code anew")
    args = parser.parse_args(argv)
    try:
        check_python(sys.version_info[:2])
        set_up(root, repair=args.repair, native=args.native)
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command continues where this one stopped", file=sys.stderr)
        return 130
    return 0


def set_up(root, repair=False, native=False):
    """Bring ``root/.venv`` to the state that constraints, pyproject and sources ask for."""
    venv = root / ".venv"
    make_venv(venv, asked_for="PYTHON" in os.environ)
    packages = Stamp(venv / "packages.stamp", packages_fingerprint(root, venv))
    if repair or not packages.fits():
        packages.clear()
        install_packages(root, venv)
        packages.write()
    library = Stamp(venv / "native.stamp", native_fingerprint(root, packages.fingerprint))
    if repair or native or not library.fits():
        library.clear()
        build_native(root, venv)
        library.write()
    configure_lab(venv)
    say("ready: .venv with Python {}.{}".format(*venv_version(venv)))


def say(text):
    print("[setup] " + text, flush=True)


# Python


def check_python(version):
    """Refuse a Python that is too old, and name a newer one if this machine has it."""
    if version >= OLDEST_PYTHON:
        return
    message = "Python {}.{} is too old; this project needs Python {}.{} or newer. ".format(
        *(tuple(version) + OLDEST_PYTHON)
    )
    newer = [f"python3.{minor}" for minor in range(14, OLDEST_PYTHON[1] - 1, -1)]
    found = next((name for name in newer if shutil.which(name)), None)
    if found:
        raise SetupError(message + f"This machine has {found}: run make with PYTHON={found}.")
    raise SetupError(message + "Install one, then run make with PYTHON=/path/to/python3.")


def make_venv(venv, asked_for):
    """Create ``venv`` with the running Python, unless a working one is there.

    A working environment stays, whatever ``python3`` is today. Only a version that the user asked for by name
    (``make lab PYTHON=python3.12``) replaces it.
    """
    running = tuple(sys.version_info[:2])
    version = venv_version(venv)
    if version and (version == running or not asked_for):
        return
    if version:
        say(".venv holds Python {}.{}; making it anew with {}.{}".format(*(version + running)))
    else:
        say("creating .venv with Python {}.{}".format(*running))
    try:
        import ensurepip  # noqa: F401  (Debian ships Python without it)
    except ImportError:
        raise SetupError(
            "this Python cannot create environments (no ensurepip). Run: sudo apt-get install python3-venv"
        ) from None
    check_disk(venv, missing_gb=ENVIRONMENT_GB, freed_gb=folder_size(venv) / GB)
    if call([sys.executable, "-m", "venv", "--clear", str(venv)]) != 0:
        raise SetupError(f"{sys.executable} -m venv failed; its message stands above")


def venv_version(venv):
    """(major, minor) of the Python in ``venv`` if it runs and has pip, else None."""
    probe = "import sys, pip; print(*sys.version_info[:2])"
    try:
        output = subprocess.check_output([venv_python(venv), "-c", probe], stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return None
    version = tuple(int(part) for part in output.split())
    return version if version >= OLDEST_PYTHON else None


def venv_python(venv):
    return str(venv / "bin" / "python")


# Packages


def install_packages(root, venv):
    """Install what pyproject.toml names, at the versions that constraints.txt names."""
    with temporary_folder(venv / "tmp") as temporary:
        for name in drop_half_installed(venv):
            say(f"{name} was installed only in part; it is installed again")
        room_for_cache = check_disk(venv, missing_gb=max(ENVIRONMENT_GB - folder_size(venv) / GB, LEAST_GB))
        say(f"installing packages; the first time this downloads about {WHEELS_GB:.1f} GB")
        command = [venv_python(venv), "-m", "pip", "install", "--disable-pip-version-check"]
        if not room_for_cache:
            say("little disk space is left: pip's cache is not used")
            command.append("--no-cache-dir")
        command += ["--constraint", str(root / "constraints.txt"), *requirements(root)]
        status = call(command, dict(os.environ, TMPDIR=str(temporary)))
    if status != 0:
        raise SetupError(
            "pip could not install the packages; its message stands above. "
            "The same command continues: what is installed stays."
        )


def configure_lab(venv):
    """Let JupyterLab save widgets with a notebook: opened again without a kernel, they are seen instead of an error."""
    settings = venv / "share" / "jupyter" / "lab" / "settings"
    settings.mkdir(parents=True, exist_ok=True)
    (settings / "overrides.json").write_text(json.dumps(LAB_SETTINGS, indent=1) + "\n", encoding="utf-8")


@contextmanager
def temporary_folder(folder):
    """An empty folder for the wheels that pip unpacks: ``/tmp`` is often small, and a killed pip leaves GBs behind."""
    shutil.rmtree(str(folder), ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(str(folder), ignore_errors=True)


def requirements(root):
    """Every requirement in pyproject.toml: to build, to run, and all extras."""
    import tomllib  # Python 3.11

    with open(root / "pyproject.toml", "rb") as file:
        pyproject = tomllib.load(file)
    project = pyproject["project"]
    extras = project.get("optional-dependencies", {})
    groups = [pyproject["build-system"]["requires"], project["dependencies"], *extras.values()]
    return list(dict.fromkeys(requirement for group in groups for requirement in group))


def drop_half_installed(venv):
    """Make pip forget packages of which a listed file is missing or has the wrong size; return their names.

    A pip that was killed while it copied files can leave a package that looks installed. Without its
    ``.dist-info`` folder pip installs it again, over the files that are there.
    """
    dropped = []
    for info in sorted(venv.glob("lib/python*/site-packages/*.dist-info")):
        if not is_complete(info):
            shutil.rmtree(str(info))
            dropped.append(info.name[: -len(".dist-info")])
    return dropped


def is_complete(info):
    """True if every file in the RECORD of a ``.dist-info`` folder is there with its size."""
    try:
        with open(str(info / "RECORD"), newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if row and not row[0].endswith(".pyc")]
    except OSError:
        return False
    for path, _, size in rows:
        file_path = os.path.join(str(info.parent), path)
        if not os.path.isfile(file_path) or (size and os.path.getsize(file_path) != int(size)):
            return False
    return True


def check_disk(venv, missing_gb, freed_gb=0.0):
    """Refuse to begin what cannot end. Returns True if pip's cache has room as well.

    pip keeps all wheels until it has unpacked them, so at the end both lie on the disk.

    Args:
        venv: the folder that grows.
        missing_gb: what it does not hold yet.
        freed_gb: what is deleted before anything is installed.
    """
    wheels_gb = WHEELS_GB * missing_gb / ENVIRONMENT_GB
    needed_gb = missing_gb + wheels_gb
    free_gb = shutil.disk_usage(str(venv.parent)).free / GB + freed_gb
    if free_gb < needed_gb:
        raise SetupError(
            f"the disk is short: {venv.parent} has {free_gb:.1f} GB free. The finished environment takes "
            f"{ENVIRONMENT_GB:.0f} GB, and installing it takes {needed_gb:.1f} GB for a while. "
            "Free some space and run the same command again."
        )
    return free_gb > needed_gb + wheels_gb


def folder_size(folder):
    """Bytes in all files below ``folder``."""
    return sum(os.lstat(os.path.join(path, name)).st_size for path, _, names in os.walk(str(folder)) for name in names)


# Native code


def build_native(root, venv):
    """Build what the machine's compilers can build, and install the project itself in place."""
    say("building the native code: a minute or two, and several more where CUDA kernels are compiled")
    # setup.py would do this too, but pip shows nothing of it until all is over.
    if call([venv_python(venv), str(root / "csrc" / "build.py")]) != 0:
        raise SetupError("the native code could not be built; the reason stands above")
    command = [venv_python(venv), "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    command += ["--no-build-isolation", "--no-deps", "--editable", str(root)]
    if call(command) != 0:
        raise SetupError("the project could not be installed in .venv; pip's message stands above")


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


def packages_fingerprint(root, venv):
    """What the installed packages depend on: the pins, the requirements, the Python of the environment."""
    return fingerprint([root / "constraints.txt", root / "pyproject.toml"], venv_version(venv))


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


def call(command, environment=None):
    """Run ``command`` with its output shown; return its exit status."""
    return subprocess.call(command, env=environment)


if __name__ == "__main__":
    sys.exit(main())

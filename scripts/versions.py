"""Try the supported versions: for each Python an environment of its own, with the pinned packages, and the tests in it.

    python scripts/versions.py                    # every supported Python that this machine has, a thin suite
    python scripts/versions.py --python 3.13 --full
    python scripts/versions.py --newest           # packages as new as pyproject.toml allows, torch too
    python scripts/versions.py --others           # as CI does: all but that of .venv, the last of them with the newest

Pythons are looked for on the path and among those of pyenv. Each is tried in a copy of this checkout under
``build/versions``, set up by its own ``bootstrap.py``. The environment is deleted afterwards, since it takes as much
disk as ``.venv``. What stands behind ``--`` goes to pytest.
"""

import argparse
import math
import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import environment
import torch_builds

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "versions"

#: What a version breaks first: imports, packages with native code, typing, processes, the command line. Minutes.
THIN = (
    *("tests/test_front_door.py", "tests/test_cli.py", "tests/test_doctor.py", "tests/test_platforms.py"),
    *("tests/test_trace.py", "tests/test_weight_files.py", "tests/attention", "tests/ops/test_formula.py"),
    *("tests/ops/test_cpu_path.py", "tests/ops/test_numba_compile.py", "tests/ops/test_registration.py"),
    *("tests/training/test_smoke.py", "tests/data/test_reading_processes.py", "tests/book/test_editions.py"),
)
#: The versions of constraints.txt do not hold for the newest packages.
ONLY_PINNED = "tests/test_versions.py"


class NotTried(Exception):
    """A version cannot be tried on this machine; the message says why."""


def main(argv=None):
    """Try what is asked for. Returns 0, or 1 if a version failed, or if nothing that was named could be tried."""
    words = list(sys.argv[1:] if argv is None else argv)
    at = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    supported = supported_versions()
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--python", action="append", choices=supported, help="a version (default: every supported one)")
    chosen.add_argument(
        "--others",
        action="store_true",
        help="every supported version but that of .venv, the last of them with the newest packages; "
        "what this machine cannot try, or what the newest packages break, is told and is no failure",
    )
    parser.add_argument("--minutes", type=float, metavar="N", help="begin none after this long (default: no limit)")
    parser.add_argument("--newest", action="store_true", help="take the newest packages instead of the pinned ones")
    parser.add_argument("--full", action="store_true", help="run the whole suite, long trainings and browsers too")
    parser.add_argument("--keep", action="store_true", help="keep the environments; the next call is quick then")
    args = parser.parse_args(words[:at])
    versions = other_versions(supported) if args.others else args.python or supported
    end = math.inf if args.minutes is None else time.monotonic() + 60 * args.minutes
    passed, failed, not_tried, broken_outside = [], [], [], []
    for version in versions:
        newest = args.newest or (args.others and version == versions[-1])
        name = version + (" with the newest packages" if newest else "")
        try:
            if time.monotonic() >= end:
                raise NotTried("no time is left for it")
            status = try_version(version, newest, args.full, args.keep, words[at + 1 :])
        except NotTried as reason:
            not_tried.append(f"{name} ({reason})")
        else:
            # A release of somebody else's must not turn down a commit that has nothing to do with it.
            outcome = passed if status == 0 else broken_outside if args.others and newest else failed
            outcome.append(name if status == 0 else f"{name} (status {status})")
    told_of = {"passed": passed, "not tried": not_tried, "FAILED, told only": broken_outside, "FAILED": failed}
    for told, names in told_of.items():
        if names:
            print(f"Python, {told}: {', '.join(names)}")
    return int(bool(failed) or not (passed or args.others))


def supported_versions():
    """Of Python, as pyproject.toml lists them: "3.11"."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    words = (text.rpartition(" :: ") for text in project["classifiers"])
    return [version for kind, _, version in words if kind == "Programming Language :: Python" and "." in version]


def other_versions(supported):
    """Those that ``.venv`` does not have."""
    own = environment.venv_version(ROOT / ".venv") or sys.version_info[:2]
    return [version for version in supported if version != "{}.{}".format(*own)]


def try_version(version, newest, full, keep, arguments):
    """Run the tests under a version in a copy of this checkout. Returns the exit status.

    Raises:
        NotTried: its Python is not here, or its packages cannot come here.
    """
    python = interpreter(version)
    if python is None:
        raise NotTried(f"no python{version} on the path or among those of pyenv")
    copy = FOLDER / (f"{version}-newest" if newest else version)
    refresh(copy, newest)
    try:
        return try_in(copy, python, pytest_arguments(full, newest) + arguments)
    finally:
        if not keep:
            shutil.rmtree(copy / ".venv", ignore_errors=True)


def interpreter(version):
    """The Python of a version: that on the path if it runs, or the latest one of pyenv; None where there is neither."""
    folder = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    releases = [path for path in folder.glob(f"{version}.*") if path.name.rpartition(".")[2].isdecimal()]
    releases.sort(key=lambda path: int(path.name.rpartition(".")[2]), reverse=True)
    programs = [shutil.which(f"python{version}"), *(path / "bin" / "python" for path in releases)]
    return next((str(program) for program in programs if program and runs(program, version)), None)


def runs(program, version):
    """Whether a program is the Python of a version. pyenv puts one on the path that only complains."""
    code = "import sys; print('{}.{}'.format(*sys.version_info))"
    try:
        told = subprocess.run([program, "-c", code], capture_output=True, text=True, check=False).stdout
    except OSError:
        return False
    return told.strip() == version


def refresh(copy, newest):
    """Make ``copy`` hold the files that git knows here, as they are now, beside what was built there before."""
    copy.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "init", "--quiet"], cwd=copy, check=True)  # tests ask git which files there are
    files = known_files(ROOT)
    for name in known_files(copy) - files:
        (copy / name).unlink()
    for name in files:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name)
    subprocess.run(["git", "add", "--all"], cwd=copy, check=True)
    if newest:
        for name in ("constraints.txt", "constraints-cuda.txt"):
            (copy / name).write_text("# the newest\n", encoding="utf-8")


def known_files(folder):
    """The files that git knows in a folder and that are there."""
    told = subprocess.run(["git", "ls-files", "-z"], cwd=folder, capture_output=True, text=True, check=True).stdout
    return {name for name in told.split("\0") if name and (folder / name).is_file()}


def pytest_arguments(full, newest):
    chosen = [] if full else ["-m", "not slow and not browser and not notebook", *THIN]
    return chosen + (["--ignore", ONLY_PINNED] if newest else [])


def try_in(copy, python, arguments):
    """Set up the copy's own environment and run its tests. Returns the first exit status that is not 0, or 0.

    Raises:
        NotTried: there is no room for the packages, or nothing can be downloaded.
    """
    print(f"== {copy.name}: {python}", flush=True)
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    venv = copy / ".venv"
    programs = environment.platforms().programs_folder(venv)
    variables = {**own, **one_thread, "PYTHON": python, "PATH": os.pathsep.join([str(programs), own["PATH"]])}
    check_room(venv)
    status = subprocess.call([python, "scripts/bootstrap.py"], cwd=copy, env=variables)
    if status and not can_download(environment.venv_python(venv)):
        raise NotTried("its packages cannot be downloaded here")
    tests = [environment.venv_python(venv), "-m", "pytest", *arguments]
    return status or subprocess.call(tests, cwd=copy, env=variables)


def check_room(venv):
    """Raises NotTried where the disk is too small for what ``venv`` does not hold yet."""
    sizes_gb = torch_builds.sizes_gb("default")
    missing_gb = max(sizes_gb[0] - environment.size_gb(venv), 0)
    try:
        environment.check_disk(venv, sizes_gb, missing_gb)
    except environment.SetupError as error:
        raise NotTried(str(error)) from None


def can_download(python):
    """Whether pip reaches what no set-up does without. Of torch it asks for the metadata, not for half a gigabyte."""
    command = [python, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps", "--quiet", "torch"]
    return subprocess.call(command, stdout=subprocess.DEVNULL) == 0


if __name__ == "__main__":
    sys.exit(main())

"""Try the supported versions: for each Python an environment of its own, with the pinned packages, and the tests in it.

    python scripts/versions.py                    # every supported Python that this machine has, a thin suite
    python scripts/versions.py --python 3.13 --full
    python scripts/versions.py --newest           # packages as new as pyproject.toml allows, torch too

Each is tried in a copy of this checkout under ``build/versions``, set up by its own ``bootstrap.py``. The environment
is deleted afterwards, since it takes as much disk as ``.venv``. What stands behind ``--`` goes to pytest.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

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


def main(argv=None):
    """Try what is asked for. Returns 0, or 1 if a version failed, or if none of those asked for is here."""
    words = list(sys.argv[1:] if argv is None else argv)
    at = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    supported = supported_versions()
    parser.add_argument("--python", action="append", choices=supported, help="a version (default: every supported one)")
    parser.add_argument("--newest", action="store_true", help="take the newest packages instead of the pinned ones")
    parser.add_argument("--full", action="store_true", help="run the whole suite, long trainings and browsers too")
    parser.add_argument("--keep", action="store_true", help="keep the environments; the next call is quick then")
    args = parser.parse_args(words[:at])
    results = {}
    for version in args.python or supported:
        python = shutil.which(f"python{version}")
        if python is None:
            results[version] = f"not tried: there is no python{version} on the path"
            continue
        copy = FOLDER / (f"{version}-newest" if args.newest else version)
        refresh(copy, args.newest)
        status = try_in(copy, python, pytest_arguments(args.full, args.newest) + words[at + 1 :])
        results[version] = "passed" if status == 0 else f"FAILED with status {status}"
        if not args.keep:
            shutil.rmtree(copy / ".venv", ignore_errors=True)
    print("\n".join(f"Python {version}: {told}" for version, told in results.items()))
    tried = [told for told in results.values() if not told.startswith("not tried")]
    return 0 if tried and set(tried) == {"passed"} else 1


def supported_versions():
    """Of Python, as pyproject.toml lists them: "3.11"."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    words = (text.rpartition(" :: ") for text in project["classifiers"])
    return [version for kind, _, version in words if kind == "Programming Language :: Python" and "." in version]


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
    """Set up the copy's own environment and run its tests. Returns the first exit status that is not 0, or 0."""
    print(f"== {copy.name}: {python}", flush=True)
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    programs = copy / ".venv" / ("Scripts" if sys.platform == "win32" else "bin")
    environment = {**own, **one_thread, "PYTHON": python, "PATH": os.pathsep.join([str(programs), own["PATH"]])}
    for command in ([python, "scripts/bootstrap.py"], [programs / "python", "-m", "pytest", *arguments]):
        status = subprocess.call(command, cwd=copy, env=environment)
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Write constraints.txt and constraints-cuda.txt: the exact versions that ``.venv`` holds now.

To move a version: ``.venv/bin/pip install NAME==VERSION``, then ``make constraints``, then ``make test-all``,
and bring ``environment.yml`` in line (``tests/test_versions.py`` says where it differs).
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

HEADER = """\
# The exact versions of everything in .venv. Written by `make constraints`; do not edit by hand.
# To move a version: .venv/bin/pip install NAME==VERSION, then make constraints, then make test-all.
"""

CUDA_HEADER = """\
# What only builds of torch with CUDA need. Written by `make constraints`; do not edit by hand.
"""


def pins(freeze: str) -> list[str]:
    """The ``name==version`` lines of a ``pip freeze``, without comments, local and editable packages."""
    lines = (line.strip() for line in freeze.splitlines())
    return sorted((line for line in lines if "==" in line and not line.startswith(("#", "-"))), key=str.lower)


def main() -> int:
    # pip freeze leaves out setuptools, which builds the native code, unless it is asked for everything.
    command = [sys.executable, "-m", "pip", "freeze", "--all", "--exclude", "pip", "--exclude", "wheel"]
    freeze = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    every = pins(freeze)
    if not any(map(only_cuda_needs, every)):
        print(
            "error: .venv holds builds of torch for the CPU; constraints are written where CUDA's are", file=sys.stderr
        )
        return 1
    write("constraints.txt", HEADER, [pin for pin in every if not only_cuda_needs(pin)])
    write("constraints-cuda.txt", CUDA_HEADER, [pin for pin in every if only_cuda_needs(pin)])
    return 0


def only_cuda_needs(pin: str) -> bool:
    """Whether a pin is of a package that comes with builds of torch with CUDA alone."""
    name = pin.partition("==")[0]
    return name == "triton" or name.startswith(("cuda-", "nvidia-"))


def write(name: str, header: str, lines: list[str]) -> None:
    (ROOT / name).write_text(header + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{name}: {len(lines)} packages")


if __name__ == "__main__":
    sys.exit(main())

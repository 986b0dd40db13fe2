"""Write constraints.txt: the exact versions that ``.venv`` holds now.

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


def pins(freeze: str) -> list[str]:
    """The ``name==version`` lines of a ``pip freeze``, without comments, local and editable packages."""
    lines = (line.strip() for line in freeze.splitlines())
    return sorted((line for line in lines if "==" in line and not line.startswith(("#", "-"))), key=str.lower)


def main() -> int:
    # pip freeze leaves out setuptools, which builds the native code, unless it is asked for everything.
    command = [sys.executable, "-m", "pip", "freeze", "--all", "--exclude", "pip", "--exclude", "wheel"]
    freeze = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    path = ROOT / "constraints.txt"
    path.write_text(HEADER + "\n".join(pins(freeze)) + "\n", encoding="utf-8")
    print(f"{path.name}: {len(pins(freeze))} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())

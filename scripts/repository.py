"""Say where the repository lies: the badges, the guide and the first cell of each notebook lead there.

    python scripts/repository.py https://github.com/NAME/dyhead_lab

The address stands in ``pyproject.toml``; this changes it there and wherever else it was written, outputs and all other
text of the notebooks stay. Colab, Kaggle and Binder each have their own way to name a repository on GitHub.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GITHUB = "https://github.com/"

#: How the sites begin an address that leads to a repository on GitHub.
FORMS = ("github.com/", "colab.research.google.com/github/", "mybinder.org/v2/gh/")
#: Where it stands, beside pyproject.toml.
WRITTEN = ("README.md", "guide/hosted.md", "notebooks/*.ipynb", "notebooks/workbook/*.ipynb")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", help="such as https://github.com/NAME/dyhead_lab")
    address = parser.parse_args(argv).address.removesuffix("/").removesuffix(".git")
    if not re.fullmatch(re.escape(GITHUB) + r"[\w-]+/[\w.-]+", address):
        parser.error(f"{address} is no repository on GitHub; Colab, Kaggle and Binder open those")
    changed = move(ROOT, address.removeprefix(GITHUB))
    print(f"{address} now stands in {len(changed)} files")
    return 0


def move(root: Path, new: str) -> list[Path]:
    """Write ``OWNER/NAME`` in the place of the repository that stands there. Returns the files that changed."""
    old = repository(root)
    pattern = re.compile(rf"({'|'.join(map(re.escape, FORMS))}){re.escape(old)}(?![\w-])")
    changed = []
    for path in [root / "pyproject.toml", *(path for form in WRITTEN for path in sorted(root.glob(form)))]:
        text = path.read_text(encoding="utf-8")
        moved = pattern.sub(rf"\g<1>{new}", text)
        if moved != text:
            path.write_text(moved, encoding="utf-8", newline="\n")
            changed.append(path)
    return changed


def repository(root: Path) -> str:
    """``OWNER/NAME``, as pyproject.toml has it."""
    pyproject = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    return pyproject["project"]["urls"]["Repository"].removeprefix(GITHUB)


if __name__ == "__main__":
    sys.exit(main())

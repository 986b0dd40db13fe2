"""The house keeps its order: imports go one way, files stay short, nothing is tied to one machine."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "dyhead_lab"
MOST_LINES = 400


def read_rooms(contributing: str) -> dict[str, int]:
    """room -> its row in the table of CONTRIBUTING.md; ``dyhead_lab/a/``, ``b.py`` in one row share a floor."""
    rooms: dict[str, int] = {}
    for row, line in enumerate(contributing.splitlines()):
        cell = line.split("|")[1] if line.startswith("| `") else ""
        if cell.strip().startswith("`dyhead_lab/"):
            for name in re.findall(r"`(?:dyhead_lab/)?(\w+)(?:/|\.py)`", cell):
                rooms[name] = row
    return rooms


ROOMS = read_rooms((ROOT / "CONTRIBUTING.md").read_text())
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room_of(module: str) -> str | None:
    """ "dyhead_lab.ops.formula" -> "ops"; None for the package itself and for other packages."""
    parts = module.split(".")
    return parts[1] if parts[0] == "dyhead_lab" and len(parts) > 1 else None


def imported_rooms(source: str, module: str, is_package: bool) -> set[str]:
    """The rooms of dyhead_lab that a module imports, anywhere in its text, absolutely or relatively."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    modules: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            modules += [f"{start}.{alias.name}" for alias in node.names]
    return {room for room in map(room_of, modules) if room in ROOMS}


def misplaced(source: str, module: str, is_package: bool = False) -> set[str]:
    """The rooms that a module imports although they lie below its own."""
    own = ROOMS[room_of(module) or ""]
    return {room for room in imported_rooms(source, module, is_package) if ROOMS[room] > own}


def test_table_of_rooms_is_read():
    first, *_, last = ROOMS
    assert (first, last) == ("errors", "cli")
    assert ROOMS["ops"] < ROOMS["attention"] < ROOMS["zoo"] < ROOMS["commands"] == ROOMS["cli"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_up_only(path):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    assert room_of(module) in ROOMS, f"{room_of(module)} has no row in the table of CONTRIBUTING.md"
    below = misplaced(path.read_text(), module, is_package=path.name == "__init__.py")
    assert not below, f"{module} imports {', '.join(sorted(below))}, which lie below it in CONTRIBUTING.md"


@pytest.mark.parametrize(
    "line",
    [
        "import dyhead_lab.zoo",
        "from dyhead_lab.zoo import get",
        "from dyhead_lab import zoo",
        "from ..zoo.registry import get",
        "from .. import zoo",
        "def late():\n    from ..zoo import get",
    ],
)
def test_an_import_that_goes_down_is_noticed(line):
    assert misplaced(line, "dyhead_lab.ops.formula") == {"zoo"}


@pytest.mark.parametrize("line", ["from ..errors import UserError", "from .checks import shape", "import torch.zoo"])
def test_an_import_that_goes_up_or_out_is_fine(line):
    assert misplaced(line, "dyhead_lab.ops.formula") == set()


def test_relative_imports_of_a_package_start_at_the_package():
    assert misplaced("from . import registry", "dyhead_lab.zoo", is_package=True) == set()
    assert misplaced("from ..cli import main", "dyhead_lab.zoo", is_package=True) == {"cli"}


def test_files_are_short():
    suffixes = {".py", ".js", ".css", ".cu", ".cuh", ".cpp", ".h"}
    files = [path for path in tracked_files() if path.suffix in suffixes and "notebooks" not in path.parts]
    assert len(files) > 50
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files}
    assert not {name: lines for name, lines in lengths.items() if lines > MOST_LINES}


REGISTRIES = re.compile(r"pypi\.org|pythonhosted\.org|download\.pytorch\.org|anaconda\.org")
MACHINE_PATHS = re.compile(r"(?<![\w./-])/(?:root|home/\w+|Users/\w+|work)/")


def tracked_files() -> list[Path]:
    """Every file that git knows and that is still there."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this copy is no git repository")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


@pytest.mark.parametrize("pattern", [REGISTRIES, MACHINE_PATHS], ids=["package registries", "paths of one machine"])
def test_files_are_not_tied_to_one_machine(pattern):
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:  # pictures, arrays, weights
            continue
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in pattern.finditer(text)]
    assert not found


def test_patterns_find_what_they_should():
    dot, slash = ".", "/"  # kept apart, so that this file does not find itself
    assert REGISTRIES.search(f"--index-url https://pypi{dot}org/simple")
    assert MACHINE_PATHS.search(f'open("{slash}root/data")') and MACHINE_PATHS.search(f"{slash}home/ann/x")
    assert not MACHINE_PATHS.search("notebooks/work/x") and not MACHINE_PATHS.search("/usr/bin")

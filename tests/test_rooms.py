"""The house keeps its order: imports go one way, files stay short, nothing is tied to one machine."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "dyhead_lab"
NOTEBOOKS = ROOT / "notebooks"
BOOK = NOTEBOOKS / "dyhead_book"
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


ROOMS = read_rooms((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room_of(module: str) -> str | None:
    """ "dyhead_lab.ops.formula" -> "ops"; None for the package itself and for other packages."""
    parts = module.split(".")
    return parts[1] if parts[0] == "dyhead_lab" and len(parts) > 1 else None


def imported_modules(source: str, module: str, is_package: bool = False) -> set[str]:
    """What a module imports, anywhere in its text, absolutely or relatively: full names, down to the imported name."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    modules: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            modules |= {f"{start}.{alias.name}" for alias in node.names}
    return modules


def module_of(path: Path) -> str:
    """The full name of the module in a file of the library or of the book."""
    start = NOTEBOOKS if path.is_relative_to(BOOK) else ROOT
    return ".".join(path.relative_to(start).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path) -> set[str]:
    """:func:`imported_modules` of a file."""
    return imported_modules(path.read_text(encoding="utf-8"), module_of(path), path.name == "__init__.py")


def imported_rooms(source: str, module: str, is_package: bool) -> set[str]:
    """The rooms of dyhead_lab that a module imports."""
    return {room for room in map(room_of, imported_modules(source, module, is_package)) if room in ROOMS}


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
    module = module_of(path)
    assert room_of(module) in ROOMS, f"{room_of(module)} has no row in the table of CONTRIBUTING.md"
    below = misplaced(path.read_text(encoding="utf-8"), module, is_package=path.name == "__init__.py")
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


# The book: chapter -> figures -> practice -> library

BOOK_SOURCES = sorted(BOOK.rglob("*.py"))
CHAPTER = re.compile(r"c\d\d_\w+")

#: Part of the book -> what it may import of the book besides itself. The library is open to all parts.
MAY_IMPORT = {
    "chapter": {"figures", "practice"},
    "figures": {"practice"},
    "practice": {"editions"},
    "site": {"hosted"},
    "diagrams": set(),
    "build": {"editions", "hosted"},
    "hosted": set(),
    "editions": set(),
    "record_launches": {"build", "editions"},
    "workbook": {"editions", "practice"},
    "command": {"site"},
}


def part_of(module: str) -> str | None:
    """ "dyhead_book.practice.drills" -> "practice"; None for the book itself and for other packages."""
    parts = module.split(".")
    return parts[1] if parts[0] == "dyhead_book" and len(parts) > 1 else None


def misplaced_in_book(imported: set[str], module: str) -> set[str]:
    """The parts of the book that a module imports although it must not."""
    own = part_of(module)
    allowed = MAY_IMPORT["chapter" if own is None or CHAPTER.fullmatch(own) else own] if own else set()
    return {part for part in map(part_of, imported) if part not in (None, own, *allowed)}  # type: ignore[misc]


@pytest.mark.parametrize("path", BOOK_SOURCES, ids=lambda path: str(path.relative_to(BOOK)))
def test_no_chapter_imports_another_and_nothing_shared_imports_a_chapter(path):
    part = part_of(module_of(path))
    assert part is None or CHAPTER.fullmatch(part) or part in MAY_IMPORT, f"{part} has no place in MAY_IMPORT"
    wrong = misplaced_in_book(imports_of(path), module_of(path))
    assert not wrong, f"{module_of(path)} imports {', '.join(sorted(wrong))}"


@pytest.mark.parametrize(
    ("line", "module", "wrong"),
    [
        ("from ..c02_b.checks import f", "dyhead_book.c01_a.checks", {"c02_b"}),
        ("import dyhead_book.c02_b", "dyhead_book.c01_a.chapter", {"c02_b"}),
        ("from dyhead_book import c02_b", "dyhead_book.c01_a.chapter", {"c02_b"}),
        ("def late():\n    from ..c01_a import checks", "dyhead_book.practice.cases", {"c01_a"}),
        ("from ..figures.points import f", "dyhead_book.practice.cases", {"figures"}),
        ("from .checks import f\nfrom ..practice.cases import g", "dyhead_book.c01_a.figure", set()),
        ("from ..figures.points import f\nfrom dyhead_lab.ops import g", "dyhead_book.c01_a.chapter", set()),
    ],
)
def test_an_import_against_the_order_of_the_book_is_noticed(line, module, wrong):
    assert misplaced_in_book(imported_modules(line, module), module) == wrong


def test_the_library_imports_nothing_of_the_book():
    found = {module_of(path): {name for name in imports_of(path) if name.startswith("dyhead_book")} for path in SOURCES}
    assert not {module: names for module, names in found.items() if names}


def importers(modules: set[str], sources: list[Path]) -> dict[str, set[str]]:
    """Module -> the modules among ``sources`` that import it, or a name of it."""
    found: dict[str, set[str]] = {module: set() for module in modules}
    for path in sources:
        for name in imports_of(path):
            for module in {name, name.rpartition(".")[0]} & modules - {module_of(path)}:
                found[module].add(module_of(path))
    return found


def chapters_among(modules: set[str]) -> set[str]:
    return {part for part in map(part_of, modules) if part and CHAPTER.fullmatch(part)}


#: Written before the chapters that use them; take one out with the second chapter that does.
WAITS_FOR_CHAPTERS = {"dyhead_book.practice.earlier"}


@pytest.mark.parametrize("folder", ["practice", "figures"])
def test_what_chapters_share_is_used_by_more_than_one(folder):
    shared = {module_of(path) for path in (BOOK / folder).glob("*.py") if path.name != "__init__.py"}
    assert shared
    for module, users in importers(shared, BOOK_SOURCES).items():
        if module in WAITS_FOR_CHAPTERS:
            continue
        helps = any(part_of(user) in ("practice", "figures") for user in users)
        assert helps or len(chapters_among(users)) > 1, f"{module} belongs into {chapters_among(users) or 'the bin'}"


def drawn_by_one_chapter(views: list[Path], others: list[Path]) -> dict[str, set[str]]:
    """Public functions of views/ that one chapter alone calls: full name -> the modules that import it.

    What a command or another module of the library imports is not meant, nor what its own module uses.
    """
    imports = {module_of(path): imports_of(path) for path in [*views, *others]}
    found = {}
    for path in views:
        body = ast.parse(path.read_text(encoding="utf-8")).body
        for function in body:
            if not isinstance(function, ast.FunctionDef) or function.name.startswith("_"):
                continue
            inside = {
                node.id
                for part in body
                if part is not function
                for node in ast.walk(part)
                if isinstance(node, ast.Name)
            }
            name = f"{module_of(path)}.{function.name}"
            users = {module for module, imported in imports.items() if name in imported}
            if function.name not in inside and not any(map(room_of, users)) and len(chapters_among(users)) == 1:
                found[name] = users
    return found


def test_views_holds_explorers_and_what_more_than_one_chapter_or_a_command_draws():
    views = [path for path in SOURCES if path.parent == PACKAGE / "views" and path.name != "__init__.py"]
    commands = [path for path in SOURCES if path not in views]
    assert not drawn_by_one_chapter(views, commands + BOOK_SOURCES)
    [training] = BOOK.glob("c13_*/chapter.py")
    alone = drawn_by_one_chapter(views, [training])
    assert alone["dyhead_lab.views.error_images.errors_picture"] == {module_of(training)}, (
        "without the command, noticed"
    )


def test_files_are_short():
    suffixes = {".py", ".js", ".css", ".cu", ".cuh", ".cpp", ".h"}
    files = [path for path in tracked_files() if path.suffix in suffixes and path.name != "chapter.py"]
    assert len(files) > 50
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
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

"""The reference: every public module has a page, and what Sphinx warns of is an error."""

import importlib.util
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dyhead_lab
from dyhead_book.site import reference

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def public_modules(package):
    """Names of the modules below a package that do not begin with an underscore, found without importing them."""
    for found in pkgutil.iter_modules(package):
        if not found.name.startswith("_"):
            yield found.name
            if found.ispkg:
                yield from (f"{found.name}.{name}" for name in public_modules([str(Path(package[0]) / found.name)]))


def configuration():
    spec = importlib.util.spec_from_file_location("docs_conf", DOCS / "conf.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_whole_library_is_named_and_nothing_of_it_is_left_out():
    [modules] = configuration().apidoc_modules
    assert modules["path"] == dyhead_lab.__path__[0] and modules["separate_modules"]
    assert not modules.get("exclude_patterns") and configuration().exclude_patterns == ["api/modules.rst"]
    assert f"{modules['destination']}/dyhead_lab" in (DOCS / "index.rst").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("max(0, 1 - |q_y - p_y|) of ``|x|``", r"max(0, 1 - \|q_y - p_y\|) of ``|x|``"),
        ("run(*args) with **named", r"run(\*args) with \*\*named"),
        ("a *new* one, 3 * 4", "a *new* one, 3 * 4"),
    ],
)
def test_formulas_and_arguments_in_docstrings_are_no_markup(line, shown):
    lines = [line]
    configuration().readable(None, "function", "f", None, None, lines)
    assert lines == [shown]


def test_a_module_names_the_chapters_that_use_it_by_links_to_the_site_around():
    conf = configuration()
    lines = ["Dynamic Head."]
    conf.named_chapters(None, "module", "dyhead_lab.attention.dyhead", None, {}, lines)
    assert "In the book: " in lines[2] and "<../../07_dynamic_head.html>`__" in lines[2]
    conf.named_chapters(None, "class", "dyhead_lab.attention.dyhead", None, {}, untouched := ["A class."])
    assert untouched == ["A class."]


def test_make_builds_the_site_around_the_reference():
    told = subprocess.run(["make", "--dry-run", "docs"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.search(rf"docs build/docs/{reference.FOLDER}\n.*dyhead-lab book --out build/docs\n", told)


@pytest.mark.slow
def test_it_builds_without_a_warning_and_every_public_module_has_a_page(tmp_path):
    pytest.importorskip("sphinx", reason="sphinx is not installed; it is in the extra docs")
    sources = tmp_path / "docs"  # apidoc writes its pages beside conf.py
    sources.mkdir()
    conf = (DOCS / "conf.py").read_text(encoding="utf-8")
    place = "ROOT = Path(__file__).resolve().parent.parent"
    assert place in conf
    (sources / "conf.py").write_text(conf.replace(place, f"ROOT = Path({str(ROOT)!r})"), encoding="utf-8")
    (sources / "index.rst").write_text((DOCS / "index.rst").read_text(encoding="utf-8"), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "--fail-on-warning",
        "--keep-going",
        "--quiet",
        sources,
        tmp_path / "out",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = {path.stem for path in (tmp_path / "out" / "api").glob("*.html")}
    wanted = {f"dyhead_lab.{name}" for name in public_modules(dyhead_lab.__path__)}
    assert wanted <= pages, wanted - pages
    head = (tmp_path / "out" / "api" / "dyhead_lab.attention.dyhead.html").read_text(encoding="utf-8")
    assert 'id="dyhead_lab.attention.dyhead.DyHead"' in head and 'href="../../07_dynamic_head.html"' in head

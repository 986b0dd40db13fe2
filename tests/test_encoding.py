"""Every text file is read and written as UTF-8, whatever the locale of the machine says.

Ruff's PLW1514 sees it of calls whose object it can infer. Here every ``read_text``, ``write_text``, ``open`` counts.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_rooms import ROOT, tracked_files


def without_encoding(source: str) -> list[int]:
    """Lines of calls that open a text file in the encoding of the locale."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return [
        call.lineno for call in calls if opens_text(call) and "encoding" not in [word.arg for word in call.keywords]
    ]


def opens_text(call: ast.Call) -> bool:
    """Whether a call opens a text file, as far as its name and its mode tell."""
    name = ast.unparse(call.func)
    if name.endswith(".read_text"):
        return not call.args  # a first argument is the encoding, or the file of a distribution
    if name.endswith(".write_text"):
        return len(call.args) < 2
    if name in ("open", "io.open", "os.fdopen", "gzip.open"):
        mode, usual = call.args[1:2], "rb" if name == "gzip.open" else "r"
    elif name.endswith("TemporaryFile"):
        mode, usual = call.args[:1], "w+b"
    elif name.endswith(".open") and name.split(".")[0] not in ("Image", "os", "tarfile", "webbrowser"):
        mode, usual = call.args[:1], "r"
    else:
        return False
    given = next((word.value for word in call.keywords if word.arg == "mode"), mode[0] if mode else ast.Constant(usual))
    text = given.value if isinstance(given, ast.Constant) else None
    return isinstance(text, str) and "b" not in text


def test_every_text_file_has_an_encoding():
    sources = [path for path in tracked_files() if path.suffix == ".py"]
    found = [
        f'{path.relative_to(ROOT)}:{line}: say encoding="utf-8"'
        for path in sources
        for line in without_encoding(path.read_text(encoding="utf-8"))
    ]
    assert len(sources) > 300 and not found, "\n".join(found)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("path.read_text()", True),
        ("path.read_text(encoding='utf-8')", False),
        ("path.write_text('x')", True),
        ("open(path)", True),
        ("open(path, 'wb')", False),
        ("open(path, mode='a')", True),
        ("path.open()", True),
        ("(a / b).open('rb')", False),
        ("NamedTemporaryFile()", False),
        ("NamedTemporaryFile('w')", True),
        ("Image.open(path)", False),
        ("archive.open(entry)", False),
        ("gzip.open(path, 'rt')", True),
    ],
)
def test_what_counts_as_opening_a_text_file(line, found):
    assert bool(without_encoding(line)) is found


@pytest.fixture
def ascii_command(tmp_path):
    """Runs a command in a folder of its own where the locale is ASCII, and gives what it prints."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONIOENCODING", "LANG")}
    env |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

    def run(*words):
        command = [sys.executable, "-m", "dyhead_lab.cli", *words]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode("ascii")
        return done.stdout.decode("ascii")

    return run


def test_a_table_is_printed_where_the_terminal_lacks_a_letter(ascii_command):
    assert "0.009" in ascii_command("experiment", "ablation", "--show")


def test_the_book_and_data_are_written_where_the_locale_is_ascii(ascii_command, tmp_path):
    assert "open site" in ascii_command("book")
    assert "·" in (tmp_path / "site" / "00_start_here.html").read_text(encoding="utf-8")
    ascii_command("data", "shapes", "--images", "1", "--out", "données")
    assert (Path(tmp_path) / "données" / "annotations.json").is_file()

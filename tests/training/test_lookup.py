"""Recipes by name, as they are, and out of Python files."""

import os
import sys

import pytest

from dyhead_lab import zoo
from dyhead_lab.cli import main
from dyhead_lab.errors import UserError
from dyhead_lab.experiments.catalogue import get_experiment
from dyhead_lab.training import lookup
from dyhead_lab.training.lookup import find_recipe
from dyhead_lab.training.python_file import import_file

RECIPE = """
from dataclasses import replace

from dyhead_lab import zoo

RECIPE = replace(zoo.get("quickstart"), name="mine", summary="one of my own")
RUNS = globals().get("RUNS", 0) + 1
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a file, and forgets afterwards that it was imported."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def write(name, text):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    yield write
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def test_a_recipe_is_a_name_a_recipe_or_a_file(write):
    quickstart = zoo.get("quickstart")
    assert find_recipe("quickstart") is quickstart and find_recipe(quickstart) is quickstart
    path = write("my_recipe.py", RECIPE)
    for source in (path, str(path)):
        recipe = find_recipe(source)
        assert recipe.name == "mine" and recipe.file == str(path) and recipe.model == quickstart.model
    assert sys.modules["my_recipe"].RUNS == 1  # a file is run once


def test_names_belong_to_the_zoo(monkeypatch):
    monkeypatch.setattr(lookup, "_by_name", [])
    with pytest.raises(UserError, match="no recipe 'quickstart': names are the zoo"):
        find_recipe("quickstart")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("without.py", "", "expected RECIPE, a Recipe; it has none"),
        ("other.py", "RECIPE = 3", "expected RECIPE, a Recipe; it is a int"),
        ("fails.py", "x = 1\nx / 0\n", r"fails\.py, line 2: ZeroDivisionError"),
        ("syntax.py", "x = 1\nx = = 2\n", r"syntax\.py, line 2: SyntaxError"),
        ("two-words.py", "", "expected a Python file whose name can be imported"),
        ("json.py", "", "there is another module 'json'"),
        ("numpy.py", "", "there is another module 'numpy'"),
        ("antigravity.py", "", "there is another module 'antigravity'"),  # one that nobody has imported
    ],
)
def test_files_that_define_no_recipe_are_named(write, name, text, words):
    path = write(name, text)
    known = sys.modules.get(path.stem)
    with pytest.raises(UserError, match=words) as refused:
        find_recipe(path)
    assert str(path) in str(refused.value)
    if not text.startswith("RECIPE") and name != "without.py":
        assert sys.modules.get(path.stem) is known  # nothing half imported is left


def test_a_neighbour_whose_name_is_taken_is_named(write, tmp_path):
    """Else the second recipe would silently train the detector of the first one's folder."""
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        write(f"{folder}/my_net.py", f"FOLDER = {folder!r}")
        write(f"{folder}/{folder}_recipe.py", "import json\n\nfrom my_net import FOLDER\n" + RECIPE)
    assert find_recipe(tmp_path / "first/first_recipe.py").name == "mine"
    with pytest.raises(UserError, match=r"second/my_net\.py, but 'my_net' is another .*first/my_net\.py\)"):
        find_recipe(tmp_path / "second/second_recipe.py")
    assert "second_recipe" not in sys.modules


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"missing\.py: no such file"):
        find_recipe(tmp_path / "missing.py")


def test_two_files_of_one_name_are_refused(write, tmp_path):
    first = write("twice.py", RECIPE)
    import_file(first)
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match=r"another module 'twice' \(.*twice\.py\)"):
        import_file(write("other/twice.py", RECIPE))


def test_a_file_that_has_changed_is_run_again(write):
    """A notebook edits its recipe and trains again, in one process."""
    path = write("edited.py", RECIPE)
    assert find_recipe(path).summary == "one of my own"
    path.write_text(RECIPE.replace("one of my own", "another one of my own"), encoding="utf-8")
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 2_000_000_000))
    assert find_recipe(path).summary == "another one of my own"


def test_a_folder_of_the_same_name_is_no_module(write, tmp_path):
    (tmp_path / "same").mkdir()
    sys.path.insert(0, str(tmp_path))
    assert find_recipe(write("same/same.py", RECIPE)).name == "mine"


def test_a_file_finds_its_neighbours(write):
    write("neighbour.py", "def data(split):\n    raise NotImplementedError\n")
    path = write("beside.py", RECIPE.replace("name=", "dataset=data, name=") + "\n")
    path.write_text("from neighbour import data\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert find_recipe(path).origin()["dataset"] == "neighbour:data"


def test_commands_take_a_file(write, capsys):
    path = write("shown.py", RECIPE)
    assert main(["zoo", str(path)]) == 0
    assert "one of my own" in capsys.readouterr().out
    assert main(["train", str(path.with_name("absent.py"))]) == 1
    assert "absent.py: no such file" in capsys.readouterr().err


def test_an_experiment_is_a_name_or_a_file(write):
    assert get_experiment("ablation").name == "ablation"
    text = (
        "from dyhead_lab.experiments.experiment import Experiment, Training\n"
        "from dyhead_lab import zoo\n"
        "EXPERIMENT = Experiment('x', '', {'a': Training(zoo.get('quickstart'))}, 'a')\n"
    )
    assert get_experiment(write("my_experiment.py", text)).name == "x"
    with pytest.raises(UserError, match="expected EXPERIMENT, a Experiment; it has none"):
        get_experiment(write("no_experiment.py", ""))

"""Classes and functions in files: written as import paths, and resolved only where a stranger's file may not choose."""

import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from textwrap import dedent
from types import FunctionType

import pytest
import torch
from torch import nn

from dyhead_lab import zoo
from dyhead_lab.attention import JointAttention
from dyhead_lab.detectors.detr.configured import sparse_detr
from dyhead_lab.errors import UserError
from dyhead_lab.training.checkpoint import WEIGHTS, read, save_weights
from dyhead_lab.training.import_paths import DATA_SETS, FORMER_MODULES, Modules, import_path, to_plain


class Own(nn.Module):
    """A class of a module that is imported and belongs to no installed package."""

    class Inner(nn.Module):
        pass


def own_function(channels):
    return Own()


class _Hidden(nn.Module):
    pass


HERE = __name__
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (JointAttention, "dyhead_lab.attention.joint:JointAttention"),  # where it is defined, not where it was found
        (Own, f"{HERE}:Own"),
        (Own.Inner, f"{HERE}:Own.Inner"),
        (own_function, f"{HERE}:own_function"),
        (nn.GELU, "torch.nn.modules.activation:GELU"),
    ],
)
def test_paths_lead_back(value, path):
    assert import_path(value, "x") == path
    assert Modules().resolve(path) is value


def test_nested_options_survive_a_file(tmp_path):
    options = {
        "channels": 64,
        "sizes": (1, 2.5, None),
        "dyhead": {"extra": partial(JointAttention, across_levels=False), "parts": [Own, "text"]},
    }
    plain = to_plain(options, "model")
    torch.save(plain, tmp_path / "file")
    read = torch.load(tmp_path / "file", weights_only=True)
    assert read == plain
    assert read["dyhead"]["extra"] == {
        "import": "dyhead_lab.attention.joint:JointAttention",
        "keywords": {"across_levels": False},
    }
    again = Modules().from_plain(read)
    assert again["sizes"] == (1, 2.5, None) and again["dyhead"]["parts"] == [Own, "text"]
    assert not again["dyhead"]["extra"](16).across_levels


def local_class():
    class Local(nn.Module):
        pass

    return Local


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (lambda channels: None, "<lambda> cannot be found again by its name; put it into a file"),
        (local_class(), "Local cannot be found again by its name; put it into a file"),
        (_Hidden, "_Hidden cannot be found again"),
        (Own(), "got Own Own"),
        (len, "got builtin_function_or_method"),
        (partial(own_function, 3), "a partial with keywords only"),
        ({"import": 3}, "names other than 'import'"),
        ({1: 2}, "names other than 'import'"),
        (torch.zeros(1), "got Tensor"),
    ],
)
def test_what_no_file_can_hold_is_refused_by_name(value, words):
    with pytest.raises(UserError) as refused:
        to_plain({"dyhead": {"extra": value}}, "model")
    assert str(refused.value).startswith("model.dyhead.extra:") and words in str(refused.value)


def test_it_is_refused_before_anything_is_done(tmp_path):
    for dyhead in ({"extra": lambda channels: None}, {"extra": local_class()}):
        with pytest.raises(UserError, match=r"^model\.dyhead\.extra: .*put it into a file"):
            zoo_train(tmp_path / "run", dyhead)
    assert not (tmp_path / "run").exists()


def zoo_train(out, dyhead):
    from dyhead_lab import train

    return train("atss_shapes", data=out.parent / "missing", out=out, model={"dyhead": dyhead})


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("shutil:rmtree", "belongs to Python itself and is no part of a detector"),  # though it is imported
        ("subprocess:run", "belongs to Python itself"),
        ("subprocess:Popen", "belongs to Python itself"),
        ("os:system", "defines no class or function"),
        ("torch.hub:load", "belongs to an installed package; if that is right: --import torch.hub"),
        ("dyhead_lab.cli:main", "expected something of dyhead_lab.attention"),
        ("dyhead_lab.detectors.official.dynamic_head:save_official", "expected something of"),  # writes a file
        ("builtins:eval", "defines no class or function"),
        (f"{HERE}:subprocess.Popen", "defines no class or function"),  # through a module of ours
        (f"{HERE}:JointAttention", "defines no class or function"),  # only imported there
        (f"{HERE}:Own.forward", "defines no class or function"),  # inherited, and no class
        (f"{HERE}:Own.__init__", "with public names"),
        (f"{HERE}:_Hidden", "with public names"),
        (f"{HERE}:HERE", "defines no class or function"),
        (f"{HERE}", "with public names"),
        ("never_imported:Net", "--import never_imported.py"),
        ("some.package:Net", "--import some.package"),
        (
            "dyhead_lab.training.checkpoint:write_atomically",
            "expected something of dyhead_lab.attention or dyh",
        ),  # no part of a model
        ("dyhead_lab.zoo.datasets:shapes", "expected something of"),  # neither
        ("dyhead_lab.detectors.missing:Net", "this version of dyhead_lab has no such module"),
        ("__main__:Net", "it was defined in a notebook: run the cell that defines it here too, or put it into a file"),
    ],
)
def test_a_file_names_no_more_than_it_may(path, words):
    with pytest.raises(UserError) as refused:
        Modules().resolve(path)
    assert words in str(refused.value)


def test_a_program_of_python_is_not_the_readers_own(tmp_path):
    """Under ``python -m pdb`` the program that runs is pdb, whose functions run what they are given."""
    lines = ["from dyhead_lab.training.import_paths import Modules", "try:", "    print(Modules().resolve('pdb:run'))"]
    lines += ["except Exception as error:", "    print('refused:', error)"]
    (tmp_path / "debugged.py").write_text("\n".join(lines), encoding="utf-8")
    printed = python("-m", "pdb", "-c", "continue", "-c", "quit", str(tmp_path / "debugged.py")).stdout
    assert "refused: pdb:run: belongs to Python itself" in printed


def test_modules_that_moved_are_found_under_their_former_names():
    for former, now in FORMER_MODULES.items():
        module = import_module(now)
        for name, value in vars(module).items():
            if isinstance(value, type | FunctionType) and value.__module__ == now and not name.startswith("_"):
                assert Modules().resolve(f"{former}:{name}") is value
    assert Modules().resolve("dyhead_lab.detectors.detr.build:sparse_detr") is sparse_detr


def test_a_module_by_its_dotted_name_may_lie_where_the_reader_works(tmp_path, monkeypatch):
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package/__init__.py").touch()
    (tmp_path / "my_package/nets.py").write_text("def net(classes):\n    return classes\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert Modules(["my_package.nets"]).resolve("my_package.nets:net")(3) == 3


def test_data_sets_have_a_room_of_their_own():
    assert Modules().resolve("dyhead_lab.zoo.datasets:shapes", DATA_SETS) is zoo.get("quickstart").dataset


def test_what_the_caller_names_is_imported_and_nothing_else(tmp_path):
    (tmp_path / "my_parts.py").write_text("def part(channels):\n    return channels\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"--import my_parts\.py, or imports=\['my_parts\.py'\]"):
        Modules().resolve("my_parts:part")
    assert "my_parts" not in sys.modules
    assert Modules([tmp_path / "my_parts.py"]).resolve("my_parts:part")(3) == 3
    assert Modules(["json"]).resolve("json:dumps")([1]) == "[1]"  # named: trusted
    with pytest.raises(UserError, match="no_such_module: cannot be imported"):
        Modules(["no_such_module"])


CELLS = (
    """
    from dataclasses import replace
    from pathlib import Path

    import dyhead_lab
    from dyhead_lab.detectors.one_stage.quickstart import quickstart
    from dyhead_lab.zoo import load_trained
    from tests.training.tiny import quick_recipe

    def my_detector(classes, **options):
        return quickstart(classes, **options)

    recipe = replace(quick_recipe(iterations=2), detector=my_detector)
    """,
    """
    result = dyhead_lab.train(recipe, data=DATA, out=OUT, progress=False)
    assert load_trained(OUT).recipe.detector is my_detector
    """,
)
NOTEBOOK = """
import sys
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
shell.user_ns.update(DATA=sys.argv[1], OUT=sys.argv[2])
for cell in {cells!r}:
    shell.run_cell(cell).raise_error()
"""


def python(*words, **settings):
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, **settings)


def test_what_a_notebook_defines_trains_and_loads_in_its_kernel(small_pictures, tmp_path):
    cells = [dedent(cell) for cell in CELLS]
    done = python("-c", NOTEBOOK.format(cells=cells), str(small_pictures), str(tmp_path / "run"), cwd=ROOT)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert read(tmp_path / "run/weights.pt", WEIGHTS)["detector"] == "__main__:my_detector"
    with pytest.raises(UserError, match=r"__main__:my_detector: it was defined in a notebook: run the cell"):
        zoo.load_trained(tmp_path / "run")


def test_early_weights_name_a_recipe_of_the_zoo(tmp_path):
    """Files from before import paths were kept: no detector, no settings."""
    recipe = zoo.get("quickstart").with_changes({"model.dyhead_blocks": 0, "model.image_size": 32})
    model = recipe.architecture(2)
    save_weights(tmp_path / "early.pt", model, "quickstart", recipe.model, ["a", "b"])
    assert set(read(tmp_path / "early.pt", WEIGHTS)) == {"format", "recipe", "options", "categories", "state_dict"}
    assert zoo.load_trained(tmp_path / "early.pt").recipe == recipe
    for wrong in ({"import": 3}, {"import": "dyhead_lab.attention.joint:JointAttention", "keywords": 3}):
        save_weights(tmp_path / "wrong.pt", model, "quickstart", {"x": wrong}, ["a", "b"], recipe.origin())
        with pytest.raises(UserError, match=r"wrong\.pt: "):
            zoo.load_trained(tmp_path / "wrong.pt")
    save_weights(tmp_path / "other.pt", model, "mine", recipe.model, ["a", "b"])
    with pytest.raises(UserError, match="no recipe 'mine'"):
        zoo.load_trained(tmp_path / "other.pt")


def test_weights_hold_the_settings_of_their_run(tmp_path):
    recipe = zoo.get("quickstart").with_changes({"model.dyhead_blocks": 0, "lr": 0.5, "milestones": "3,4"})
    renamed = replace(recipe, name="unknown to the zoo")
    for each in (recipe, renamed):
        plain = each.origin()
        save_weights(tmp_path / "w.pt", each.architecture(2), each.name, plain["settings"]["model"], ["a", "b"], plain)
        again = zoo.load_trained(tmp_path / "w.pt").recipe
        assert again.settings() == each.settings() and again.name == each.name
        assert again.detector is recipe.detector and again.dataset is recipe.dataset


SCRIPT = """
from torch import nn
from dyhead_lab.errors import UserError
from dyhead_lab.training.import_paths import Modules, import_path

class Net(nn.Module):
    pass

try:
    path = import_path(Net, "detector")
    assert Modules().resolve(path) is Net
    print(path)
except UserError as error:
    print(error)
"""


ITSELF = """
from dyhead_lab import Recipe
from dyhead_lab.training.lookup import find_recipe

def net(classes):
    pass

RECIPE = Recipe("mine", "names its own file", net, dataset=None)
RUNS = globals().get("RUNS", 0) + 1
found = find_recipe("my_recipe.py")
print(found.detector is net, found.origin()["detector"])
"""


def test_a_script_that_names_its_own_file_means_itself(tmp_path):
    """Run a second time, its classes would be others than those of the program that trains."""
    (tmp_path / "my_recipe.py").write_text(dedent(ITSELF), encoding="utf-8")
    done = python("my_recipe.py", cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.stdout.split() == ["True", "my_recipe:net"], done.stderr[-1000:]


def test_a_script_is_named_after_its_file_and_a_program_without_one_is_refused(tmp_path):
    (tmp_path / "my_script.py").write_text(dedent(SCRIPT), encoding="utf-8")
    assert python(tmp_path / "my_script.py").stdout.split() == ["my_script:Net"]
    assert Modules([tmp_path / "my_script.py"]).resolve("my_script:Net").__name__ == "Net"
    (tmp_path / "my-script.py").write_text(dedent(SCRIPT), encoding="utf-8")
    assert "Net lies in my-script.py, a name that cannot be imported" in python(tmp_path / "my-script.py").stdout
    refused = python("-c", SCRIPT).stdout
    assert refused.startswith("detector: Net belongs to a program that is no file; put it into a file")

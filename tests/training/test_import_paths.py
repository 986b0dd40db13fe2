"""Classes and functions in files: written as import paths, and resolved only where a stranger's file may not choose."""

import subprocess
import sys
from functools import partial
from textwrap import dedent

import pytest
import torch
from torch import nn

from dyhead_lab import zoo
from dyhead_lab.attention import JointAttention
from dyhead_lab.errors import UserError
from dyhead_lab.training.import_paths import DATA_SETS, Modules, import_path, to_plain


class Own(nn.Module):
    """A class of a module that is imported and belongs to no installed package."""

    class Inner(nn.Module):
        pass


def own_function(channels):
    return Own()


class _Hidden(nn.Module):
    pass


HERE = f"{__name__}"


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
        ("shutil:rmtree", "shutil is not imported here"),  # a module of Python, though it is imported
        ("subprocess:run", "subprocess is not imported here"),
        ("subprocess:Popen", "subprocess is not imported here"),
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
        ("__main__:Net", "defines no class or function"),
    ],
)
def test_a_file_names_no_more_than_it_may(path, words):
    with pytest.raises(UserError) as refused:
        Modules().resolve(path)
    assert words in str(refused.value)


def test_data_sets_have_a_room_of_their_own():
    assert Modules().resolve("dyhead_lab.zoo.datasets:shapes", DATA_SETS) is zoo.get("quickstart").dataset


def test_what_the_caller_names_is_imported_and_nothing_else(tmp_path):
    (tmp_path / "my_parts.py").write_text("def part(channels):\n    return channels\n")
    with pytest.raises(UserError, match=r"--import my_parts\.py, or imports=\['my_parts\.py'\]"):
        Modules().resolve("my_parts:part")
    assert "my_parts" not in sys.modules
    assert Modules([tmp_path / "my_parts.py"]).resolve("my_parts:part")(3) == 3
    assert Modules(["json"]).resolve("json:dumps")([1]) == "[1]"  # named: trusted
    with pytest.raises(UserError, match="no_such_module: cannot be imported"):
        Modules(["no_such_module"])


NOTEBOOK = """
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()

def cell(text):
    result = shell.run_cell(text)
    result.raise_error()

cell('''
from torch import nn
from dyhead_lab.training.import_paths import Modules, import_path

class Net(nn.Module):
    pass
''')
cell('''
path = import_path(Net, "detector")
assert Modules().resolve(path) is Net
print(path)
''')
"""


def python(*words, **settings):
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, **settings)


def test_classes_of_a_notebook_are_found_in_its_kernel():
    done = python("-c", NOTEBOOK)
    assert done.stdout.split() == ["__main__:Net"], done.stderr[-2000:]
    with pytest.raises(UserError, match=r"__main__:Missing"):
        Modules().resolve("__main__:Missing")


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


def test_a_script_is_named_after_its_file_and_a_program_without_one_is_refused(tmp_path):
    (tmp_path / "my_script.py").write_text(dedent(SCRIPT))
    assert python(tmp_path / "my_script.py").stdout.split() == ["my_script:Net"]
    assert Modules([tmp_path / "my_script.py"]).resolve("my_script:Net").__name__ == "Net"
    refused = python("-c", SCRIPT).stdout
    assert refused.startswith("detector: Net belongs to a program that is no file; put it into a file")

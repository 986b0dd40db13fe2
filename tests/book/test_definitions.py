"""A chapter's own definitions: all of them, from its own text, and nothing that the chapter computes."""

import inspect

import pytest

from dyhead_book import build

from .definitions import definitions

SOURCE = """\
# %% [markdown]
# # Doubling

# %%
import os
from dataclasses import dataclass

FACTOR, STEPS = 2, 4 if os.environ.get("A_NAME_THAT_IS_NOT_SET") else 100
factor_of = {"double": FACTOR}

# %% exercise="double"
def double(x):
    # >>> multiply by the factor
    return FACTOR * x
    # <<<


# %% check="double"
check_double(double)

# %% tags=["workbook"]
def double(x):
    return None


# %%
@dataclass
class Pair:
    left: int

    def doubled(self):
        return Pair(double(self.left))


model = open("no such file")
size = model.size


def measured(x, on=model):
    return on


def uses(x):
    return model + x
"""


@pytest.fixture
def cells(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "BOOK", tmp_path)
    path = tmp_path / "c99_doubling" / "chapter.py"
    path.parent.mkdir()
    path.write_text(SOURCE, encoding="utf-8")
    return definitions("99_doubling")


def test_functions_classes_imports_and_constants_are_there(cells):
    assert (cells["FACTOR"], cells["STEPS"], cells["factor_of"]) == (2, 100, {"double": 2})
    assert cells["Pair"](3).doubled() == cells["Pair"](6)


def test_the_text_is_the_chapters_own_and_can_be_looked_up(cells):
    assert "# >>> multiply by the factor" in inspect.getsource(cells["double"])
    assert cells["double"].__code__.co_filename.endswith("chapter.py")


def test_nothing_that_the_chapter_computes_is_there(cells):
    assert not {"model", "size", "measured"} & cells.keys()
    cells["model"] = 4  # but a test may bring it
    assert cells["uses"](1) == 5


def test_every_call_gives_a_namespace_of_its_own(cells):
    assert definitions("99_doubling")["double"] is not cells["double"]


def test_a_chapter_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="no chapter '77_nothing'"):
        definitions("77_nothing")


@pytest.mark.parametrize("source", build.chapters(), ids=build.title)
def test_every_chapter_gives_its_definitions(source):
    assert definitions(build.title(source))

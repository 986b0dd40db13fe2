"""What the reader built travels to later chapters: only through the workbook, and only while it passes its check."""

import ast
import builtins

import pytest
import torch
from torch import nn

from dyhead_book import build as builder
from dyhead_book.editions import exercises
from dyhead_book.practice import answers
from dyhead_book.practice import earlier as module
from dyhead_book.practice.answers import answer_file, kept
from dyhead_book.practice.earlier import earlier, needed_for, of_the_library
from dyhead_book.practice.reader_checks import Verdict
from dyhead_book.workbook import Workbook
from dyhead_lab.attention import ScaleAwareAttention

FIRST, NAME = "02_scale_aware", "ScaleAwareAttention"
CHAPTER = "99_gates"
SOURCE = """\
# %%
import torch
from torch import nn

from dyhead_book.practice.reader_checks import Verdict

pictures = list(range(3))
for picture in pictures:
    raise RuntimeError("a training that nobody needs")

# %%
picture = torch.ones(2, 3, 4, 5)


def check_gate(gate, x):
    return Verdict(gate(3)([x]).shape == x.shape, "One shape is tried.")


# %% exercise="module"
class ScaleAwareAttention(nn.Module):
    # >>> the gates
    def __init__(self, channels):
        super().__init__()

    def forward(self, branches):
        return branches[0]
    # <<<


# %% check="module"
check_gate(ScaleAwareAttention, picture)
"""
MINE = """class ScaleAwareAttention(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, branches):
        return sum(branches)
"""


@pytest.fixture(autouse=True)
def book(tmp_path, monkeypatch):
    """A book of one chapter, and a reader with an empty folder."""
    monkeypatch.setattr(answers, "BOOK", tmp_path)
    monkeypatch.setattr(module, "_built", {})  # a kernel that has just started
    monkeypatch.setenv("DYHEAD_READER", str(tmp_path / "reader"))
    path = tmp_path / f"c{CHAPTER}" / "chapter.py"
    path.parent.mkdir()
    path.write_text(SOURCE, encoding="utf-8")
    return path


def write_in_workbook(cell, right=True):
    """Run a cell and its check as a notebook does."""
    names = {"nn": nn, "In": ["", "x = 1", cell, "not ( Python"]}
    exec(cell, names)
    Workbook(CHAPTER, names).check("module", lambda: Verdict(right, ""))


def test_a_right_answer_is_the_readers_in_later_chapters(capsys):
    write_in_workbook(MINE)
    mine = earlier(CHAPTER, "ScaleAwareAttention")
    assert mine is not ScaleAwareAttention and torch.equal(mine(3)([torch.ones(1), torch.ones(1)]), 2 * torch.ones(1))
    assert capsys.readouterr().out == "ScaleAwareAttention: yours, from chapter 99.\n"
    assert earlier(CHAPTER, "ScaleAwareAttention") is mine, "one class in one kernel"


def test_the_last_right_answer_counts():
    write_in_workbook(MINE)
    write_in_workbook(MINE.replace("sum(branches)", "3 * branches[0]"))
    write_in_workbook(MINE.replace("sum(branches)", "4 * branches[0]"), right=False)
    assert earlier(CHAPTER, "ScaleAwareAttention")(3)([torch.ones(1)]).item() == 3


def test_without_an_answer_the_librarys_is_given_and_told(capsys):
    assert earlier(CHAPTER, "ScaleAwareAttention") is ScaleAwareAttention
    assert capsys.readouterr().out == "ScaleAwareAttention: the library's. You have not built it yet.\n"


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (MINE.replace("sum(branches)", "branches[0].sum()"), "does not pass its check any more. One shape is tried."),
        (MINE.replace("sum(branches)", "branches / 0"), "does not run here: TypeError"),
        (MINE.replace("sum(branches)", "helper(branches)"), "name 'helper' is not defined"),
        ("raise SystemError\n" + MINE, "does not run here: SystemError"),
    ],
    ids=["wrong", "raises", "leans on another cell", "raises at once"],
)
def test_an_answer_that_is_not_right_any_more_gives_way(capsys, cell, said):
    names = {"nn": nn, "In": [cell], "ScaleAwareAttention": object()}
    Workbook(CHAPTER, names).check("module", lambda: Verdict(True, ""))
    assert earlier(CHAPTER, "ScaleAwareAttention") is ScaleAwareAttention
    assert said in capsys.readouterr().out


def test_a_check_that_became_stricter_is_asked_again(book, capsys):
    write_in_workbook(MINE)
    book.write_text(SOURCE.replace("x.shape, ", "x.shape[1:], "), encoding="utf-8")
    assert earlier(CHAPTER, "ScaleAwareAttention") is ScaleAwareAttention
    assert "does not pass its check any more" in capsys.readouterr().out


@pytest.fixture
def executed():
    builtins.executed = []
    yield builtins.executed
    del builtins.executed


FOREIGN = "executed.append('a foreign file')\n" + MINE


def test_a_file_that_the_workbook_did_not_write_is_never_executed(capsys, executed):
    path = answer_file(CHAPTER, "module")
    path.parent.mkdir(parents=True)
    path.write_text(FOREIGN, encoding="utf-8")
    assert earlier(CHAPTER, "ScaleAwareAttention") is ScaleAwareAttention
    write_in_workbook(MINE)
    path.write_text(FOREIGN, encoding="utf-8")
    assert earlier(CHAPTER, "ScaleAwareAttention") is ScaleAwareAttention
    assert capsys.readouterr().out.count("was changed outside of the workbook") == 2
    assert executed == []


@pytest.mark.parametrize("content", ["[1]", "{", "\xff"])
def test_damaged_digests_make_no_answer_trusted(content, capsys):
    write_in_workbook(MINE)
    (answer_file(CHAPTER, "module").parents[1] / "digests.json").write_text(content, encoding="latin-1")
    assert earlier(CHAPTER, "ScaleAwareAttention") is ScaleAwareAttention
    assert "was changed outside" in capsys.readouterr().out
    write_in_workbook(MINE)
    assert kept(CHAPTER, "module") == MINE


def test_a_damaged_answer_is_told(capsys):
    write_in_workbook(MINE)
    answer_file(CHAPTER, "module").write_bytes(b"\xff\xfe\xff")
    assert earlier(CHAPTER, "ScaleAwareAttention") is ScaleAwareAttention
    assert "cannot be read" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "reader").mkdir()
    (tmp_path / "reader" / "answers").write_text("", encoding="utf-8")
    with pytest.warns(UserWarning, match="later chapters use the library's"):
        write_in_workbook(MINE)


def test_the_books_version_is_never_kept_as_the_readers(tmp_path):
    names = {"nn": nn, "In": [MINE]}
    exec(MINE, names)
    chapter = Workbook(CHAPTER, names)
    chapter.check("module", lambda: Verdict(False, ""))
    chapter.check("module", lambda: Verdict(True, ""))
    assert not answer_file(CHAPTER, "module").exists()


@pytest.mark.parametrize(
    ("chapter", "name", "message"),
    [
        ("77_nothing", "ScaleAwareAttention", "no chapter '77_nothing'"),
        (CHAPTER, "Gate", "no exercise of chapter 99_gates builds 'Gate'"),
    ],
)
def test_names_that_are_not_there_are_refused(chapter, name, message):
    with pytest.raises(ValueError, match=message):
        earlier(chapter, name)


def test_the_library_is_searched_for_one_definition():
    assert of_the_library("ScaleAwareAttention") is ScaleAwareAttention
    with pytest.raises(ValueError, match="defines 0 things"):
        of_the_library("NoSuchClass")
    with pytest.raises(ValueError, match="expected one"):
        of_the_library("__init__")


def test_only_the_statements_that_are_needed_are_run():
    text = "import a\nb = 1\nb = a.c\nd = b\nfor e in d:\n    f = e\nprint(f)\ndef g(x):\n    return b + x\n"
    found = needed_for([ast.parse("g(2)")], ast.parse(text).body)
    assert "; ".join(map(ast.unparse, found)) == "import a; b = a.c; def g(x):\n    return b + x"
    found = needed_for([ast.parse("f")], ast.parse(text).body)
    assert [type(statement).__name__ for statement in found] == ["Import", "Assign", "Assign", "For"]


def test_local_variables_need_no_statement_of_the_same_name():
    text = "own = 1\ndef h(x):\n    own = x\n    return [other for other in own]\nother = 2\n"
    found = needed_for([ast.parse("h(2)")], ast.parse(text).body)
    assert [type(statement).__name__ for statement in found] == ["FunctionDef"]


@pytest.mark.parametrize(
    ("chapter", "name"),
    [
        (FIRST, NAME),
        ("02_scale_aware", "PaperScaleAwareAttention"),
        ("05_spatial_aware", "SpatialAwareAttention"),
        ("06_task_aware", "TaskAwareAttention"),
        ("06_task_aware", "PaperTaskAwareAttention"),
        ("07_dynamic_head", "DyHead"),
        ("10_multi_scale_deformable_attention", "MultiScaleDeformableAttention"),
        ("11_deformable_detr", "DeformableDecoder"),
        ("11_deformable_detr", "DeformableDecoderLayer"),
    ],
)
def test_answers_that_later_chapters_take_pass_their_checks_again(monkeypatch, capsys, chapter, name):
    """Real chapters: the check runs among those of their cells that it needs."""
    monkeypatch.setattr(answers, "BOOK", real := builder.BOOK)
    [exercise] = [e for e in exercises(builder.read_source(real / f"c{chapter}" / "chapter.py")) if name in e.names]
    names = {"In": [exercise.answer]} | {name: object() for name in exercise.names}
    Workbook(chapter, names).check(exercise.name, lambda: Verdict(True, ""))
    assert earlier(chapter, name) is not of_the_library(name)
    assert capsys.readouterr().out == f"{name}: yours, from chapter {chapter[:2]}.\n"

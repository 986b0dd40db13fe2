"""Two editions from one source: the book is whole; the workbook has gaps and runs to its end whatever fills them."""

import json

import nbformat
import pytest
from nbclient import NotebookClient

from dyhead_book import build, editions
from dyhead_book.editions import EditionError, book_edition, exercises, solved, workbook_edition
from dyhead_book.practice import answers
from dyhead_book.practice.answers import progress
from dyhead_book.practice.reader_checks import Verdict
from dyhead_book.workbook import Workbook

SOURCE = '''\
# %% [markdown]
# # Doubling
#
# What follows is simple.

# %% tags=["hide"]
from dyhead_book.practice.reader_checks import Verdict


def check_double(double):
    return Verdict(double(3) == 6, "Three is tried.")


# %% [markdown] tags=["workbook"]
# A hint.

# %% exercise="double"
def double(x):
    """Twice x."""
    # >>> add x to itself
    y = x + x
    return y
    # <<<


# %% check="double"
check_double(double)

# %%
print("four times five is", double(double(5)))
'''
CHAPTER = "99_doubling"


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A book of one chapter."""
    monkeypatch.setattr(build, "BOOK", tmp_path)
    monkeypatch.setattr(answers, "BOOK", tmp_path)
    monkeypatch.setenv("DYHEAD_READER", str(tmp_path / "reader"))
    path = tmp_path / f"c{CHAPTER}" / "chapter.py"
    path.parent.mkdir()
    path.write_text(SOURCE, encoding="utf-8")
    return build.read_source(path)


def texts(notebook, kind="code"):
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


def test_the_book_shows_the_answer_without_its_marks(source):
    book = book_edition(source, workbook="its_workbook.ipynb")
    assert texts(book)[1] == 'def double(x):\n    """Twice x."""\n    y = x + x\n    return y'
    assert texts(book)[2] == "check_double(double)"
    assert "A hint." not in texts(book, "markdown")
    assert "[workbook](its_workbook.ipynb)" in book.cells[0].source
    nbformat.validate(book)


def test_cells_that_are_there_for_their_output_are_collapsed_in_both_editions(source):
    for edition in (book_edition(source), workbook_edition(source, CHAPTER)):
        cell = next(cell for cell in edition.cells if "import Verdict" in cell.source)
        assert cell.metadata == {"jupyter": {"source_hidden": True}}


@pytest.mark.parametrize(
    ("code", "collapsed"),
    [
        ('guess = Question("99 a", "Twice three?", a="6", b="9")\nguess.ask()', True),
        ('Challenge("Four times", "Twice twice.")', True),
        ("guess.ask()", True),
        ('guess = Question("99 a", "Twice three?", a="6", b="9")\nprint(guess)', False),
        ("y = double(3)", False),
        ("%matplotlib inline", False),
        ("import math", False),
        ("", False),
    ],
)
def test_cells_that_only_put_a_question_or_a_challenge_are_collapsed(source, code, collapsed):
    source.cells.append(nbformat.v4.new_code_cell(code))
    cell = book_edition(source).cells[-1]
    assert ("jupyter" in cell.metadata) == collapsed


def test_the_workbook_has_a_gap_a_check_and_a_folded_answer(source):
    workbook = workbook_edition(source, CHAPTER, book="its_book.ipynb")
    gap = next(cell for cell in workbook.cells if cell.source.startswith("def double"))
    assert gap.source == 'def double(x):\n    """Twice x."""\n    raise NotImplementedError(\'add x to itself\')'
    assert gap.metadata.tags == ["raises-exception"]
    check, answer = workbook.cells[workbook.cells.index(gap) + 1 :][:2]
    assert check.source == 'workbook.check("double", lambda: check_double(double))'
    assert answer.source.startswith("<details><summary>Answer</summary>") and "y = x + x" in answer.source
    assert "A hint." in texts(workbook, "markdown") and "[book](its_book.ipynb)" in workbook.cells[0].source
    nbformat.validate(workbook)


def run(workbook, chapter_source, tmp_path):
    """Execute a workbook whose chapter lies in a book of its own; what its cells printed and showed."""
    here = f"Path({str(build.BOOK)!r})"
    opening = (
        f"import dyhead_book.practice.answers\nfrom pathlib import Path\n\ndyhead_book.practice.answers.BOOK = {here}"
    )
    workbook.cells.insert(1, nbformat.v4.new_code_cell(opening))
    NotebookClient(
        workbook, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [output for cell in workbook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "\n".join(o.get("text", "") or o.get("data", {}).get("text/plain", "") for o in outputs)


@pytest.mark.notebook
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "Not yet. Still to do: add x to itself"),
        ("def double(x):\n    return x * x", "Not yet. Three is tried."),
        ("def double(x):\n    return x / 0", "Your code raises ZeroDivisionError: division by zero (line 2"),
        ("def double(x):\n    return (", "There is no double yet"),
        ("raise RuntimeError('mine')", "There is no double yet"),
    ],
    ids=["blank", "wrong", "raises", "no Python", "raises at once"],
)
def test_the_workbook_runs_to_its_end_on_the_books_version(source, tmp_path, answer, said):
    workbook = workbook_edition(source, CHAPTER)
    if answer is not None:
        workbook = solved(workbook, source, {"double": answer})
    text = run(workbook, source, tmp_path)
    assert said in text
    assert "From here on the chapter uses the book's double." in text
    assert "four times five is 20" in text
    assert progress() == {}


@pytest.mark.notebook
@pytest.mark.parametrize("answer", ["def double(x):\n    return x + x", "double = lambda x: 2 * x"])
def test_a_right_answer_is_kept_in_whatever_style_and_remembered(source, tmp_path, answer):
    text = run(solved(workbook_edition(source, CHAPTER), source, {"double": answer}), source, tmp_path)
    assert "Right. Three is tried." in text and "From here on" not in text
    assert "four times five is 20" in text
    assert progress() == {CHAPTER: ["double"]}


def test_a_solved_workbook_has_the_code_of_the_book(source):
    filled = solved(workbook_edition(source, CHAPTER), source)
    assert texts(book_edition(source))[1] in texts(filled)


def test_what_was_right_once_stays_remembered(source):
    workbook = Workbook(CHAPTER, {"double": None})
    workbook.check("double", lambda: Verdict(True, ""))
    workbook.check("double", lambda: Verdict(False, ""))
    workbook.check("double", lambda: Verdict(True, ""))
    assert progress() == {CHAPTER: ["double"]}


def test_the_books_version_is_not_taken_for_the_readers(source):
    cells = {"double": lambda x: 3 * x}
    workbook = Workbook(CHAPTER, cells)
    right = lambda: Verdict(cells["double"](3) == 6, "")  # noqa: E731
    assert not workbook.check("double", right).verdict and cells["double"](3) == 6
    again = Workbook(CHAPTER, cells).check("double", right).verdict  # the reader's next answer was not even Python
    assert not again and "The double that is there is the book's" in again.message
    assert progress() == {}
    cells["double"] = lambda x: x + x
    assert workbook.check("double", right).verdict


def test_a_damaged_record_is_no_obstacle(source, tmp_path):
    (tmp_path / "reader").mkdir()
    (tmp_path / "reader" / "progress.json").write_text(json.dumps([1, 2]), encoding="utf-8")
    Workbook(CHAPTER, {"double": None}).check("double", lambda: Verdict(True, ""))
    assert progress() == {CHAPTER: ["double"]}


def test_a_folder_that_cannot_be_written_is_told_and_stops_nothing(source, tmp_path, monkeypatch):
    (tmp_path / "afile").write_text("", encoding="utf-8")
    monkeypatch.setenv("DYHEAD_READER", str(tmp_path / "afile"))
    with pytest.warns(UserWarning, match="what you solve is not remembered"):
        assert Workbook(CHAPTER, {"double": None}).check("double", lambda: Verdict(True, "")).verdict


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('# %% check="double"', "# %%", "exercise 'double': the next cell must begin"),
        ('# %% check="double"', '# %% check="other"', "exercise 'double': the next cell must begin"),
        ('# %% exercise="double"', "# %%", "stands in a cell that is no exercise"),
        ("    # <<<\n", "", "nothing stands between"),
        ("    # >>> add x to itself\n", "", "nothing stands between"),
        ("    # <<<\n", "    # <<<\n    # >>> again\n", "do not come in pairs"),
        ("check_double(double)\n\n# %%", "x = check_double(double)\n\n# %%", "must be one expression"),
        ('# %% [markdown] tags=["workbook"]', '# %% check="double"', "does not stand right before it"),
    ],
)
def test_marks_that_do_not_fit_are_named(source, tmp_path, old, new, message):
    path = tmp_path / f"c{CHAPTER}" / "chapter.py"
    assert old in SOURCE
    path.write_text(SOURCE.replace(old, new), encoding="utf-8")
    with pytest.raises(EditionError, match=message):
        exercises(build.read_source(path))


def test_an_exercise_stands_once(source):
    source.cells += [cell for cell in source.cells if {"exercise", "check"} & set(cell.metadata)]
    with pytest.raises(EditionError, match="'double' stands more than once"):
        exercises(source)


SEVERAL = """\
def f(x):
    # >>> first
    x = x + 1
    # <<<
    if x:
        # >>> then
        x = 2
        # <<<
    return x"""


@pytest.mark.parametrize("chapter", build.chapters(), ids=build.title)
def test_exercises_are_found_without_jupytext_too(chapter):
    marked = editions.marked_cells(chapter.read_text(encoding="utf-8"))
    assert exercises(marked) == exercises(build.read_source(chapter))


def test_a_chapter_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="no chapter '77_nothing'"):
        Workbook("77_nothing", {})


def test_a_cell_may_have_several_gaps():
    answer = "def f(x):\n    x = x + 1\n    if x:\n        x = 2\n    return x"
    assert editions.without_marks(SEVERAL) == answer
    gaps = answer.replace("x = x + 1", "raise NotImplementedError('first')")
    assert editions.blanked(SEVERAL) == gaps.replace("x = 2", "raise NotImplementedError('then')")


KERNEL = '''\
# %% exercise="add"
add = """
__global__ void add(float* x) {
  // >>> add one
  x[0] += 1;
  // <<<
}
"""

# %% check="add"
check_add(add)
'''


def test_a_gap_in_a_kernel_is_a_comment_of_its_language_and_stops_its_compiler(tmp_path):
    source = nbformat.from_dict(editions.marked_cells(KERNEL))
    [exercise] = exercises(source)
    assert exercise.answer.splitlines()[2:4] == ["  x[0] += 1;", "}"]
    assert editions.blanked(source.cells[0].source).splitlines()[2] == '  #error "add one"'


def test_a_gap_is_never_wider_than_a_line_of_the_book():
    task = "for each place of every level: " + "a sample of every tap and channel, " * 4 + "and what it's worth"
    marked = f"def f(x):\n    if x:\n        # >>> {task}\n        return x\n        # <<<"
    blank = editions.blanked(marked)
    assert max(map(len, blank.splitlines())) <= editions.WIDEST
    namespace: dict = {}
    exec(blank, namespace)
    with pytest.raises(NotImplementedError) as gap:
        namespace["f"](1)
    assert str(gap.value) == task

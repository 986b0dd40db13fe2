"""Every chapter agrees with its source, keeps its outputs, and runs."""

from __future__ import annotations

import ast
import json
import re
from importlib import import_module
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell

from dyhead_book import build as builder
from dyhead_book.editions import MAY_RAISE, Exercise, exercises, solved, without_marks
from dyhead_book.hosted import is_first_cell

CHAPTERS = builder.chapters()
LONGEST_CELL = 25  # lines
FAST_SECONDS = 60

each_chapter = pytest.mark.parametrize("source", CHAPTERS, ids=builder.title)


@each_chapter
def test_the_notebook_says_what_its_source_says(source):
    assert builder.code_differences(source) == []


@each_chapter
def test_the_notebook_was_executed_and_is_valid_and_small(source):
    path = builder.target(source)
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.stat().st_size <= builder.LARGEST
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in code if not is_first_cell(cell)]
    assert counts == list(range(1, len(counts) + 1)), "the cells were not run in order, once each"
    widgets = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json")
    shows_widgets = "application/vnd.jupyter.widget-view+json" in path.read_text(encoding="utf-8")
    assert (widgets is not None and "state" in widgets) or not shows_widgets


@each_chapter
def test_the_chapter_has_short_cells_and_a_cost_card(source):
    cells = builder.read_source(source).cells
    card = dict(re.findall(r"^\| (\w[\w ]*) \| (.+) \|$", cells[0].source, re.MULTILINE))
    assert {"Time", "Memory", "Needs"} <= card.keys()
    if "to run on" in card["Time"]:  # on some pages there is nothing to run
        assert all(word in card["Time"] for word in ("minute", "CPU", "GPU")) and "GPU" in card["Memory"]
    for cell in cells:
        if cell.cell_type == "code":
            lines = without_marks(cell.source).count("\n") + 1  # as the book shows it
            assert lines <= LONGEST_CELL, f"{lines} lines, at most {LONGEST_CELL}:\n{cell.source[:200]}"


@pytest.fixture
def fast(monkeypatch):
    """Cells that train take a few steps, and none may take long."""
    monkeypatch.setenv("DYHEAD_FAST", "1")
    monkeypatch.setattr(builder, "SLOWEST_CELL", FAST_SECONDS)


def workbooks() -> list[Path]:
    return [source for source in CHAPTERS if exercises(builder.read_source(source))]


@pytest.mark.notebook
@each_chapter
def test_the_chapter_runs_and_what_it_builds_is_right(source, fast, tmp_path):
    """A workbook with the book's answers in it has the code of the book, and runs it."""
    blank = builder.workbook(source)
    chapter = solved(blank, builder.read_source(source)) if blank else builder.book(source)
    notebook = builder.execute(chapter, tmp_path)
    assert json.loads(builder.serialise(notebook))["nbformat"] == 4
    assert all(verdict.startswith("Right.") for _, verdict in verdicts(notebook))
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                lines = output.text.splitlines()  # the library's own notices, such as "compiling", are fine
                assert all(line.startswith("dyhead_lab: ") for line in lines), f"a cell wrote to stderr:\n{output.text}"


@pytest.mark.parametrize("source", workbooks(), ids=builder.title)
def test_a_solved_workbook_has_all_code_of_the_book(source):
    marked = builder.read_source(source)
    checks = {exercise.check for exercise in exercises(marked)}
    filled = iter(code_of(solved(builder.workbook(source), marked)))
    for code in code_of(builder.book(source)):
        assert code in checks or code in filled, f"missing, or in another order:\n{code}"


def code_of(notebook) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def verdicts(notebook) -> list[tuple[str, str]]:
    """Exercise and verdict of every check of an executed workbook, in their order."""
    return [
        (found[1], cell.outputs[-1].data["text/plain"])
        for cell in notebook.cells
        if cell.cell_type == "code" and (found := re.match(r'workbook\.check\("(\w+)"', cell.source))
    ]


@pytest.mark.notebook
@pytest.mark.parametrize("source", workbooks(), ids=builder.title)
def test_the_workbook_runs_to_its_end_whatever_the_reader_writes(source, fast, tmp_path):
    """Every exercise is left blank, then raises when it is called, then has what the chapter's ``other_styles`` bring.

    The first one has a cell that itself raises, too. Later cells run on the book's version or on the other style.
    """
    known = {exercise.name: exercise for exercise in exercises(builder.read_source(source))}
    styles = other_styles(source)
    assert styles.keys() <= known.keys()
    notebook = builder.workbook(source)
    cells, expected = [], []
    for cell in notebook.cells:
        cells.append(cell)
        if found := re.match(r'workbook\.check\("(\w+)"', cell.source):
            name = found[1]
            answers = [(raising(known[name]), "the reader")]
            if len(expected) == 0:
                answers.append(("raise RuntimeError('at once')", "is the book's"))
            if name in styles:
                answers.append((styles[name], "Right."))
            for answer, _ in answers:
                cells += [reader_cell(answer), new_code_cell(cell.source)]
            expected += [(name, "Still to do"), *((name, said) for _, said in answers)]
    notebook.cells = cells
    found = verdicts(builder.execute(notebook, tmp_path))
    assert [name for name, _ in found] == [name for name, _ in expected]
    for (name, verdict), (_, said) in zip(found, expected, strict=True):
        assert said in verdict, name
        assert verdict.startswith("Right." if said == "Right." else "Not yet."), name
        assert ("From here on the chapter uses the book" in verdict) == (said != "Right."), name


#: Chapter -> what a reader writes in the place of what it begins with: a photograph, weights.
OF_MY_OWN = {"14": [('PHOTO = "workshop"', 'PHOTO = "cat"')], "15": []}


@pytest.mark.notebook
@pytest.mark.parametrize("number", OF_MY_OWN)
def test_chapters_that_look_take_any_photograph_and_any_weights(number, fast, tmp_path):
    """Another size of picture, and a Dynamic Head of one block on four levels."""
    [source] = [source for source in CHAPTERS if builder.title(source).startswith(number)]
    notebook = builder.book(source)
    for old, new in [*OF_MY_OWN[number], ('WEIGHTS = "everyday"', 'WEIGHTS = "quickstart"')]:
        [cell] = [cell for cell in notebook.cells if cell.cell_type == "code" and old in cell.source]
        cell.source = cell.source.replace(old, new)
    executed = builder.execute(notebook, tmp_path)
    assert not any(o.output_type == "error" for cell in executed.cells for o in cell.get("outputs", []))


def reader_cell(answer: str):
    return new_code_cell(answer, metadata={"tags": [MAY_RAISE]})


def raising(exercise: Exercise) -> str:
    """An answer that defines the names of the book's, of which each raises when it is called or built."""
    classes = {s.name: s for s in ast.parse(exercise.answer).body if isinstance(s, ast.ClassDef)}
    raises = "(*arguments, **named):\n{}raise RuntimeError('the reader')\n"
    texts = []
    for name in exercise.names:
        if name not in classes:
            texts.append(f"def {name}{raises.format('    ')}")
            continue
        bases = ", ".join(map(ast.unparse, classes[name].bases))
        texts.append(f"class {name}({bases}):")
        for method in ("__init__", "forward", "__call__"):
            static = any(method == getattr(s, "name", "") and s.decorator_list for s in classes[name].body)
            texts += ["    @staticmethod"] * static + [f"    def {method}{raises.format('        ')}"]
    return "\n".join(texts)


def other_styles(source: Path) -> dict[str, str]:
    """Exercise -> a right answer in another style: the strings of ``OTHER_STYLES`` in a file beside the chapter."""
    path = source.parent / "other_styles.py"
    if not path.is_file():
        return {}
    return import_module(f"dyhead_book.{source.parent.name}.other_styles").OTHER_STYLES


def test_a_kernel_finds_this_book_and_this_library_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    source = tmp_path / "c99_example" / "chapter.py"
    source.parent.mkdir()
    code = "import dyhead_book\nimport dyhead_lab\n\nprint(dyhead_book.__file__, dyhead_lab.__file__)\n"
    source.write_text(f"# %%\n{code}", encoding="utf-8")
    [cell] = builder.execute(builder.read_source(source), tmp_path).cells
    found = [Path(path).parent for path in cell.outputs[0].text.split()]
    assert found == [builder.BOOK, builder.NOTEBOOKS.parent / "dyhead_lab"]


def test_notices_of_the_machine_that_builds_do_not_enter_a_notebook(tmp_path):
    source = tmp_path / "c99_example" / "chapter.py"
    source.parent.mkdir()
    source.write_text(
        "# %%\nimport sys\n\nprint('dyhead_lab: compiling')\nprint('kept: 3')\n\n"
        "# %%\nprint('dyhead_lab: drawing', file=sys.stderr)\n",
        encoding="utf-8",
    )
    first, second = builder.execute(builder.read_source(source), tmp_path).cells
    assert [output.text for output in first.outputs] == ["kept: 3\n"] and second.outputs == []


def test_new_text_leaves_outputs_alone_and_new_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(builder, "NOTEBOOKS", tmp_path)
    source = tmp_path / "c99_example" / "chapter.py"
    source.parent.mkdir()
    source.write_text("# %% [markdown]\n# Old.\n\n# %%\nprint(1 + 1)\n", encoding="utf-8")
    executed = builder.execute(builder.book(source), tmp_path)
    builder.target(source).write_text(builder.serialise(executed), encoding="utf-8")
    source.write_text("# %% [markdown]\n# New.\n\n# %%\nprint(1 + 1)\n", encoding="utf-8")
    cells = builder.with_new_text(source).cells
    assert [cell.source for cell in cells if cell.cell_type == "markdown"] == ["New."]
    assert cells[-1] == executed.cells[-1]
    source.write_text("# %% [markdown]\n# New.\n\n# %%\nprint(1 + 2)\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"99_example\.ipynb: its code has changed"):
        builder.with_new_text(source)


def test_widgets_are_numbered_and_ids_follow_the_text(tmp_path, monkeypatch):
    source = tmp_path / "c99_example" / "chapter.py"
    source.parent.mkdir()
    source.write_text("# %%\nfrom ipywidgets import IntSlider\n\nIntSlider()\n\n# %%\n1\n\n# %%\n1\n", encoding="utf-8")
    empty = builder.read_source(source)
    assert len({cell.id for cell in empty.cells}) == 3, "equal cells need different ids"
    texts = [builder.serialise(builder.execute(builder.read_source(source), tmp_path)) for _ in range(2)]
    assert texts[0] == texts[1], "two builds of the same source differ"
    assert re.search(r'"model_id": "0{30}\d\d"', texts[0])


def test_paths_of_this_machine_do_not_enter_a_notebook(tmp_path):
    source = tmp_path / "c99_example" / "chapter.py"
    source.parent.mkdir()
    source.write_text(
        f"# %% [markdown]\n# {builder.NOTEBOOKS.parent}/data in {builder.NOTEBOOKS.parent}\n", encoding="utf-8"
    )
    cell = json.loads(builder.serialise(builder.read_source(source)))["cells"][0]
    assert "".join(cell["source"]) == "data in ."
    source.write_text(f"# %% [markdown]\n# {Path.home()}/secret\n", encoding="utf-8")
    with pytest.raises(ValueError, match="path of this machine"):
        builder.serialise(builder.read_source(source))


def test_guesses_of_whoever_builds_do_not_enter_a_notebook(tmp_path, monkeypatch):
    own = tmp_path / "own"
    own.mkdir()
    (own / "predictions.json").write_text('{"99 example": "a"}', encoding="utf-8")
    monkeypatch.setenv("DYHEAD_READER", str(own))
    source = tmp_path / "c99_example" / "chapter.py"
    source.parent.mkdir()
    question = 'Question("99 example", "Which?", a="this", b="that")'
    source.write_text(
        f"# %%\nfrom dyhead_book.practice.predictions import Question\n\n{question}.ask()\n", encoding="utf-8"
    )
    text = builder.serialise(builder.execute(builder.read_source(source), tmp_path))
    assert "press a button" in text and "Your guess:" not in text

"""Every formula of the book has code and a number that proves it."""

import ast
import math
import re
from pathlib import Path

import pytest

import dyhead_lab
from dyhead_book import build
from dyhead_book.c18_formulas.formula_table import (
    TABLE,
    TOLERANCE,
    Formula,
    by_paper,
    contents,
    heading,
    markdown,
    read_formulas,
    read_papers,
)

FORMULAS = read_formulas()
INSTALLED = Path(dyhead_lab.__file__).parents[1]  # the checkout, or where packages are installed


@pytest.mark.parametrize("formula", FORMULAS, ids=lambda formula: formula.name)
def test_the_code_computes_the_formula(formula):
    path, line = formula.line().split(":")
    assert 0 < int(line) <= len((INSTALLED / path).read_text(encoding="utf-8").splitlines())
    assert formula.error() < TOLERANCE


def defined_in(chapter: str) -> set[str]:
    """Functions and classes that the cells of a chapter define, not those that they import."""
    [source] = build.chapters([chapter])
    cells = [cell.source for cell in build.book(source).cells if cell.cell_type == "code"]
    statements = (statement for cell in cells for statement in ast.parse(cell).body)
    return {s.name for s in statements if isinstance(s, ast.FunctionDef | ast.ClassDef)}


@pytest.mark.parametrize("formula", FORMULAS, ids=lambda formula: formula.name)
def test_the_named_chapter_builds_what_is_named(formula):
    link = re.search(r"\[chapter (\d\d)\]\((\S+)\.ipynb\)", formula.place())
    assert link[1] == formula.chapter and (build.BOOK / f"c{link[2]}" / "chapter.py").is_file()
    if formula.built:
        assert formula.built in defined_in(formula.chapter)


def test_what_a_chapter_imports_or_does_not_know_is_not_built_there():
    assert "MultiScaleDeformableAttention" in defined_in("10") - defined_in("11")
    assert "scorer_loss" not in defined_in("09")


def test_every_paper_with_an_address_has_formulas_and_is_linked():
    papers = dict(by_paper(FORMULAS))
    assert read_papers().keys() <= papers.keys()
    assert {p for p in papers if "](https://" not in heading(p)} == {"Losses of detectors", "This book"}


def test_the_contents_name_every_formula_once():
    names = [row.split(" | ")[1].removesuffix(" |") for row in contents(FORMULAS).splitlines()[2:]]
    assert sorted(" · ".join(names).split(" · ")) == sorted(formula.name for formula in FORMULAS)


def test_a_proof_that_differs_does_not_pass():
    wrong = Formula("", "", "", "", "", "math:sqrt", f"{__name__}:differing", "", "")
    assert wrong.error() == pytest.approx(0.5)
    with pytest.raises(ValueError, match=r"the library gives \(\), the formula \(2,\)"):
        Formula("", "", "", "", "", "", f"{__name__}:misshapen", "", "").error()


def differing():
    return 1.0, 2.0


def misshapen():
    return 1.0, [1.0, 2.0]


def test_the_numbered_equations_of_dynamic_head_are_all_there():
    papers = dict(by_paper(FORMULAS))
    numbers = {formula.equation for formula in papers["Dynamic Head (Dai et al., 2021)"]}
    assert {"1", "2", "3", "4", "5"} <= numbers
    numbers = {formula.equation for formula in papers["Deformable DETR (Zhu et al., 2021)"]}
    assert {"1", "2", "3"} <= numbers
    assert len(papers["Sparse DETR (Roh et al., 2022)"]) >= 5


def test_a_formula_that_stands_twice_or_lacks_a_field_is_refused(tmp_path):
    entries = TABLE.read_text(encoding="utf-8").split("[[formula]]")
    twice = tmp_path / "twice.toml"
    twice.write_text("[[formula]]".join([*entries, entries[1]]), encoding="utf-8")
    with pytest.raises(ValueError, match="Bilinear interpolation"):
        read_formulas(twice)
    lacking = tmp_path / "lacking.toml"
    lacking.write_text('[[formula]]\nname = "Nameless"\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"lacking\.toml, Nameless: .*missing"):
        read_formulas(lacking)


def test_a_card_holds_formula_code_and_number():
    card = markdown(FORMULAS[0])
    assert "$$x(p)" in card and "dyhead_lab/ops/formula.py:" in card and "equation 3 and 4" in card
    assert Path(FORMULAS[0].line().split(":")[0]).suffix == ".py" and math.isfinite(FORMULAS[0].error())

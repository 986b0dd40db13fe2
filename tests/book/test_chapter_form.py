"""What every chapter has: diagrams, links to the chapters that it names, questions with folded answers, its end."""

from __future__ import annotations

import re

import pytest

from dyhead_book import build, editions

FEWEST_DIAGRAMS = 2
FEWEST_QUESTIONS = 3
SOURCES = {build.title(source): source for source in build.chapters()}
#: Pages to look things up, and the first steps, build nothing.
BUILDING = [title for title, source in SOURCES.items() if editions.exercises(build.read_source(source))]
#: Chapters whose classes stand inside a shipped detector end with it; kernels, training and looking do not.
GROWS = ("01", "02", "03", "05", "06", "07", "08", "09", "10", "11", "12")
#: Where the photograph of the workshop is followed: its pyramid, the level that sees each object, taps, blocks, tokens.
FOLLOWED = ("00", "01", "02", "05", "07", "12")


def prose(title: str) -> str:
    """All markdown of a chapter on one line."""
    cells = build.read_source(SOURCES[title]).cells
    return " ".join(" ".join(cell.source for cell in cells if cell.cell_type == "markdown").split())


def unlinked(text: str, own: str = "") -> set[str]:
    """Numbers of chapters that a text names and never links."""
    lists = re.findall(r"\b[Cc]hapters? ((?:\d\d(?:, and |, or |, | and | or | to )?)+)", text)
    named = {number for found in lists for number in re.findall(r"\d\d", found)}
    return named - set(re.findall(r"\]\((?:\.\./|workbook/)?(\d\d)_\w+\.ipynb\)", text)) - {own}


@pytest.mark.parametrize("title", SOURCES)
def test_every_chapter_that_is_named_is_linked(title):
    assert unlinked(prose(title), title[:2]) == set()


@pytest.mark.parametrize("title", BUILDING)
def test_a_chapter_shows_two_diagrams_at_least(title):
    assert len(set(re.findall(r'<img src="diagrams/(\w+)\.svg"', prose(title)))) >= FEWEST_DIAGRAMS


@pytest.mark.parametrize("title", BUILDING)
def test_a_chapter_closes_with_questions_whose_answers_are_folded(title):
    before, found, after = prose(title).rpartition("Check yourself")
    assert found and "## " in before
    folds = re.findall(r"<details><summary>(.+?)</summary>(.+?)</details>", after)
    assert len(folds) >= FEWEST_QUESTIONS
    for question, answer in folds:
        assert question.strip() and len(answer.split()) >= 5, question


@pytest.mark.parametrize("title", [title for title in SOURCES if title.startswith(GROWS)])
def test_the_growing_detector_ends_its_chapter(title):
    code = [cell.source for cell in build.read_source(SOURCES[title]).cells if cell.cell_type == "code"]
    assert "so_far(" in code[-1], "the last cell that runs says what is the reader's of a shipped detector"


@pytest.mark.parametrize("title", [title for title in SOURCES if title.startswith(FOLLOWED)])
def test_one_photograph_is_followed_through_the_book(title):
    assert 'photograph("workshop")' in SOURCES[title].read_text(encoding="utf-8")


def test_what_is_named_and_not_linked_is_found():
    text = "As in chapter 02, [chapter 03](03_b.ipynb), chapters 04 and 05; [05](05_e.ipynb), not 06 percent."
    assert unlinked(text) == {"02", "04"} and unlinked(text, "02") == {"04"}

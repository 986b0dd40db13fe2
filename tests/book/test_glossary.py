"""The page of letters and words: the letters are those of the house, and every word is met where its link leads."""

import re
from pathlib import Path

import pytest

from dyhead_book import build

[PAGE] = build.chapters(["19"])
TEXT = build.read_source(PAGE).cells[0].source
LETTERS, SYMBOLS, GLOSSARY = re.split(r"^## (?:Index of symbols|Glossary)$", TEXT, flags=re.MULTILINE)
LINK = re.compile(r"\[(\d\d)\]\((\S+?)\.ipynb\)")


def rows(text: str, columns: int) -> list[list[str]]:
    found = (line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| "))
    return [row for row in found if len(row) == columns and row[-1] != "chapter" and "---" not in row]


TERMS = rows(GLOSSARY, 5)


def plain(text: str) -> str:
    """Small letters without the marks of emphasis, and hyphens as spaces."""
    return re.sub(r"[\s*_`#-]+", " ", text).lower()


def chapter_text(number: str) -> str:
    [source] = build.chapters([number])
    return plain(source.read_text(encoding="utf-8"))


def test_the_letters_are_those_of_the_house():
    guide = (Path(build.NOTEBOOKS).parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    sentence = re.search(r"^B batch(.+?)\.$", guide, re.MULTILINE | re.DOTALL)[0]
    wanted = {letter for part in sentence.split("·") for letter in re.findall(r"\b[A-Z]\b", part.split("=")[0])}
    listed = {letter for row in rows(LETTERS, 3) for letter in re.findall(r"\$([A-Z])\$", row[0])}
    assert listed == wanted


def test_every_link_leads_to_a_chapter_of_its_number():
    links = LINK.findall(TEXT)
    assert len(links) > 100
    assert all(name.startswith(number) and (build.BOOK / f"c{name}").is_dir() for number, name in links)


def words(term: str) -> list[str]:
    """What may stand in a chapter for a term: the words before a bracket, those in it, parts of a list."""
    return [plain(part).strip() for part in re.split(r"[(),]", term) if part.strip()]


@pytest.mark.parametrize("row", TERMS, ids=lambda row: row[0])
def test_a_word_is_met_where_its_link_leads(row):
    english, korean, chinese, meaning, chapters = row
    assert re.search(r"[가-힣]", korean) and re.search(r"[\u4e00-\u9fff]", chinese) and meaning
    for number, _ in LINK.findall(chapters):
        assert any(word in chapter_text(number) for word in words(english)), number


def test_no_word_stands_twice():
    names = [row[0].lower() for row in TERMS]
    assert len(names) == len(set(names)) > 80

"""The map of the book: every chapter stands on a path, with its own minutes and needs, and with what is solved."""

import re

import pytest

from dyhead_book import build
from dyhead_book.c00_start_here.reading import PATHS, Stop, reading_paths, stops
from dyhead_book.editions import exercises
from dyhead_book.practice.answers import record


@pytest.fixture(autouse=True)
def reader(tmp_path, monkeypatch):
    monkeypatch.setenv("DYHEAD_READER", str(tmp_path / "reader"))


def test_every_chapter_stands_on_a_path_and_its_links_lead_to_both_editions():
    linked = set(re.findall(r"\]\((\S+?)\)", reading_paths().data))
    wanted = {build.target(source).name for source in build.chapters()[1:]}
    workbooks = {f"workbook/{build.title(s)}.ipynb" for s in build.chapters() if exercises(build.read_source(s))}
    assert linked == wanted | workbooks
    assert {number for numbers in PATHS.values() for number in numbers} == {name[:2] for name in wanted}


def test_a_path_visits_a_chapter_after_those_it_stands_on():
    for numbers in PATHS.values():
        assert list(numbers) == sorted(numbers)


def test_a_path_says_how_long_it_takes_and_a_short_one_does_not():
    hours = re.findall(r"^\*\*(.+?)\*\*(?:: (\d+)(?: to (\d+))? hours)?$", reading_paths().data, re.MULTILINE)
    assert [name for name, *_ in hours] == list(PATHS)
    assert all(0 < int(low) < int(high or 99) for _, low, high in hours[:3])
    assert hours[-1][1:] == ("", "")


@pytest.mark.parametrize("stop", stops(), ids=lambda stop: stop.name)
def test_a_stop_says_what_its_chapter_says(stop):
    title, card = (part.strip() for part in build.read_source(stop.source).cells[0].source.split("\n", 1))
    assert f"# {stop.title}" == title and f"| Needs | {stop.says('Needs')} |" in card
    low, high = stop.minutes
    looked_up = "to look things up" in card
    assert (low, high) == (0, 0) if looked_up else 10 <= low <= high <= 240


def test_what_is_solved_is_counted(tmp_path):
    stop = next(stop for stop in stops() if stop.row({}).count("workbook/"))
    names = [exercise.name for exercise in exercises(build.read_source(stop.source))]
    assert f"| 0 of {len(names)} |" in reading_paths().data
    record(stop.name, "an exercise that is no more")
    for name in names:
        record(stop.name, name)
    [row] = {line for line in reading_paths().data.splitlines() if line.startswith(f"| {stop.name[:2]} |")}
    assert row.endswith(f"| {len(names)} of {len(names)} ✓ |")


def test_a_chapter_without_minutes_has_an_empty_field(tmp_path):
    source = tmp_path / "c98_words" / "chapter.py"
    source.parent.mkdir()
    source.write_text("# %% [markdown]\n# # Words\n#\n# | Time | to look things up |\n", encoding="utf-8")
    assert Stop(source).minutes == (0, 0) and Stop(source).says("Needs") == ""

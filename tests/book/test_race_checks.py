"""Chapter 16: its cells pass their checks, every mistake has its name, and its counts are those of the benchmark."""

from __future__ import annotations

from statistics import median

import pytest
import torch

from dyhead_book import build
from dyhead_book.c16_kernel_race.race_checks import (
    CONTENDER_MISTAKES,
    FLOOR_MISTAKES,
    RACE_MISTAKES,
    WORK_MISTAKES,
    check_contender,
    check_conv_work,
    check_floor_seconds,
    check_race,
    floor_seconds,
)
from dyhead_book.editions import exercises
from dyhead_lab.ops.bench.problems import convolution

from .definitions import definitions
from .planted import assert_bugs_are_caught


@pytest.fixture(scope="module")
def cells():
    return definitions("16_kernel_race")


def test_bugs(cells):
    assert_bugs_are_caught(check_conv_work, cells["conv_work"], WORK_MISTAKES)
    assert_bugs_are_caught(check_floor_seconds, floor_seconds, FLOOR_MISTAKES)
    assert_bugs_are_caught(check_contender, cells["my_kernel"], CONTENDER_MISTAKES)


def test_the_race_of_the_chapter_is_fair(cells):
    assert check_race(cells["race"])


UNFAIR = {
    "the contenders run one after the other": (
        "    for _ in range(rounds):\n        for name, run in contenders.items():",
        "    for name, run in contenders.items():\n        for _ in range(rounds):",
    ),
    "the first run counts": ("    for run in contenders.values():\n        run()\n", ""),
    "the mean is taken": ("median(seconds)", "sum(seconds) / len(seconds)"),
    "the times are added up": ("median(seconds)", "sum(seconds)"),
    "the clock is read once, before everything": ("            start = clock()\n", ""),
}


@pytest.mark.parametrize("name", list(UNFAIR))
def test_an_unfair_race_is_named(name):
    """Each is the chapter's own text, changed; without a warm-up the mean is what shows it."""
    text = answer("race")
    right, wrong = UNFAIR[name]
    assert right in text
    text = text.replace(right, wrong)
    if name == "the first run counts":
        text = text.replace("median(seconds)", "sum(seconds) / len(seconds)")
    if name == "the clock is read once, before everything":
        text = text.replace("    times = {", "    start = clock()\n    times = {")
    scope = {"perf_counter": None, "median": median}
    exec(text, scope)
    verdict = check_race(scope["race"])
    assert not verdict and f"when {name}." in verdict.message, verdict.message
    assert name in {mistake.name for mistake in RACE_MISTAKES}


def answer(name: str) -> str:
    """The code of an exercise of the chapter."""
    [source] = build.chapters(["16"])
    return next(e.answer for e in exercises(build.read_source(source)) if e.name == name)


def test_the_counts_of_the_lesson_are_those_of_the_benchmark(cells):
    problem = convolution("small", 2, 16, 5, 7, "cpu")
    output = torch.empty(2, 16, 5, 7)
    assert cells["conv_work"](2, 16, 5, 7) == (problem.bytes_moved(output, False), problem.operations)

"""The arithmetic of an experiment's table, and its file."""

import json
from dataclasses import replace
from statistics import stdev

import pytest

from dyhead_lab.errors import UserError
from dyhead_lab.experiments.record import Record, Spread

MACHINE = {"device": "a CPU", "date": "2026-11-20"}


def record(**runs):
    made = Record(
        name="toy",
        summary="two rows",
        rows=("base", "better", "noisy"),
        baseline="base",
        metrics=("AP", "AP50"),
        seeds=(0, 1, 2),
        command="dyhead-lab experiment toy",
    )
    for row, values in runs.items():
        for seed, value in enumerate(values):
            made.add(row, seed, {"AP": value, "AP50": 2 * value, "minutes": 1.5}, MACHINE)
    return made


def line(table, start):
    return next(text for text in table.splitlines() if text.startswith(start))


def test_mean_and_deviation_over_seeds():
    spread = record(base=[0.1, 0.2, 0.4]).spread("base", "AP")
    assert spread.mean == pytest.approx(0.7 / 3)
    # divisor n - 1: squares of -4/30, -1/30, 5/30 sum to 42/900
    assert spread.deviation == pytest.approx((42 / 900 / 2) ** 0.5)


def test_differences_are_paired():
    """Seeds move both rows by 0.3; the difference hardly notices."""
    rows = record(base=[0.1, 0.4, 0.2], better=[0.15, 0.46, 0.25])
    difference = rows.difference("better", "AP")
    assert difference.mean == pytest.approx(0.16 / 3)
    assert difference.deviation == pytest.approx(stdev([0.05, 0.06, 0.05]))
    assert rows.spread("better", "AP").deviation > 10 * difference.deviation


def test_only_seeds_of_both_rows_are_compared():
    assert record(base=[0.1], better=[0.2, 0.9, 0.9]).difference("better", "AP") == Spread(pytest.approx(0.1), None, 1)
    assert record(better=[0.2]).difference("better", "AP") is None


def test_table_says_what_a_difference_is_worth():
    table = record(base=[0.1, 0.2, 0.3], better=[0.2, 0.3, 0.4], noisy=[0.3, 0.1, 0.3]).table()
    assert "undecided" not in line(table, "better")
    assert "+0.100 [+0.100, +0.100]" in line(table, "better")
    # differences 0.2, -0.1, 0 of mean 0.0333 and deviation 0.1528; Student's t of two degrees of freedom: 4.303
    assert "+0.033 [-0.346, +0.413]" in line(table, "noisy") and line(table, "noisy").endswith("undecided")
    assert "0.200 ± 0.100" in line(table, "base") and "0.400 ± 0.200" in line(table, "base")
    assert "a run took 1.5 to 1.5 minutes" in table


@pytest.mark.parametrize(("seeds", "times"), [(2, 12.706 / 2**0.5), (3, 4.303 / 3**0.5), (10, 2.262 / 10**0.5)])
def test_an_interval_is_as_wide_as_students_t_says(seeds, times):
    """Quantiles of published tables; they have three figures behind the point."""
    low, high = Spread(0.5, 0.01, seeds).interval()
    assert high - 0.5 == pytest.approx(0.5 - low) == pytest.approx(0.01 * times, rel=1e-3)


def test_one_seed_has_no_spread():
    table = record(base=[0.1], better=[0.3]).table()
    assert "one seed" in line(table, "better") and "[" not in line(table, "better")
    assert "±" not in line(table, "better")


def test_a_table_of_one_seed_says_so():
    table = replace(record(base=[0.1], better=[0.3]), seeds=(0,)).table()
    assert "seed 0 only, so no spread" in table and "not measured: noisy seed 0" in table


def test_missing_runs_are_named():
    table = record(base=[0.1, 0.2, 0.3], better=[0.2]).table()
    wanted = "better seed 1; better seed 2; noisy seed 0; noisy seed 1; noisy seed 2"
    assert line(table, "not measured") == f"not measured: {wanted}"
    assert "–" in line(table, "noisy")


def test_large_numbers_have_one_figure_behind_the_point():
    assert Spread(123.456, 2.34, 3).text() == "123.5 ± 2.3"
    assert Spread(-0.01234, None, 1).text("+") == "-0.012"


def test_what_no_seed_changes_has_no_spread_in_the_table():
    assert Spread.of([1048106.0, 1048106.0]).text() == "1048106"
    assert Spread.of([0.25]).text() == "0.250"


def test_each_group_is_compared_with_its_own_baseline(tmp_path):
    made = record(base=[0.1], own=[0.3], better=[0.4])
    made = replace(made, rows=("base", "own", "better"), against={"better": "own"})
    assert made.difference("better", "AP").mean == pytest.approx(0.1)
    table = made.table()
    assert "AP - own baseline" in table
    rows = {line.split()[0]: line for line in table.splitlines() if line}
    assert "+0.100" in rows["better"] and "+" not in rows["own"] and "+" not in rows["base"]
    made.save(tmp_path / "toy.json")
    assert Record.load(tmp_path / "toy.json") == made


def test_file_holds_all_of_it(tmp_path):
    before = record(base=[0.1, 0.2], better=[0.3])
    before.save(tmp_path / "toy.json")
    assert Record.load(tmp_path / "toy.json") == before
    assert json.loads((tmp_path / "toy.json").read_text(encoding="utf-8"))["runs"][0]["row"] == "base"


def test_a_record_without_runs_can_be_stored(tmp_path):
    record().save(tmp_path / "toy.json")
    assert Record.load(tmp_path / "toy.json").runs == {}


@pytest.mark.parametrize("content", ["{", "[]", '{"format": "something else"}'])
def test_other_files_are_refused_by_name(tmp_path, content):
    path = tmp_path / "toy.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"toy\.json"):
        Record.load(path)


def test_each_run_knows_its_machine(tmp_path):
    rows = record(base=[0.1, 0.2], better=[0.2])
    assert "device a CPU, date 2026-11-20" in rows.table().splitlines()
    other = {"device": "another CPU", "date": "2026-11-21"}
    rows.add("better", 1, {"AP": 0.3}, other)
    rows.save(tmp_path / "toy.json")
    read = Record.load(tmp_path / "toy.json")
    assert read.machines == {"base": {0: MACHINE, 1: MACHINE}, "better": {0: MACHINE, 1: other}}
    assert "1 run: device another CPU, date 2026-11-21" in read.table().splitlines()
    assert "3 runs: device a CPU, date 2026-11-20" in read.table().splitlines()

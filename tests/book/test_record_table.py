"""A recorded experiment as a table: numbers of the record, differences seed by seed, and what is missing."""

from dyhead_book.figures import record_table
from dyhead_book.figures.record_table import recorded_table
from dyhead_lab.experiments import catalogue
from dyhead_lab.experiments.record import Record

MACHINE = {"device": "a processor", "date": "2026-01-02"}


def test_rows_differences_and_gaps(monkeypatch):
    record = Record("few", "which is better", ("a", "b", "c"), "a", ("AP", "Corr"), (0, 1), "dyhead-lab experiment few")
    for row, seed, ap in (("a", 0, 0.1), ("a", 1, 0.3), ("b", 0, 0.2), ("b", 1, 0.4), ("c", 0, 0.15)):
        record.add(row, seed, {"AP": ap, "Corr": 10 * ap}, MACHINE)
    monkeypatch.setattr(record_table, "recorded", lambda name: record)
    header, _, a, b, c, _, notes = recorded_table("few").data.splitlines()
    assert header == "| | AP | Corr | AP minus a |"
    assert a == "| a | 0.200 ± 0.141 | 2.000 ± 1.414 |  |"
    assert b == "| b | 0.300 ± 0.141 | 3.000 ± 1.414 | +0.100 [+0.100, +0.100] |", "what a seed does to both falls out"
    assert c == "| c | 0.150 | 1.500 | +0.050, one seed |"
    assert "`dyhead-lab experiment few` on a processor, 2026-01-02. Not measured: c seed 1." in notes


def test_a_single_seed_has_no_spread(monkeypatch):
    record = Record("few", "", ("a",), "a", ("AP",), (3,), "dyhead-lab experiment few")
    record.add("a", 3, {"AP": 0.1}, MACHINE)
    monkeypatch.setattr(record_table, "recorded", lambda name: record)
    assert "\n\nSeed 3 only, so no spread. Measured with" in recorded_table("few").data


def test_rows_with_a_baseline_of_their_own(monkeypatch):
    rows, against = ("a", "a with", "b", "b with"), {"a with": "a", "b with": "b"}
    record = Record("few", "", rows, "a", ("AP",), (0,), "dyhead-lab experiment few", against)
    for row, ap in zip(rows, (0.1, 0.3, 0.5, 0.6), strict=True):
        record.add(row, 0, {"AP": ap}, MACHINE)
    monkeypatch.setattr(record_table, "recorded", lambda name: record)
    header, _, *lines = recorded_table("few").data.splitlines()[:6]
    assert header == "| | AP | AP minus its baseline |"
    assert [line.split("|")[3].strip() for line in lines] == ["", "+0.200, one seed", "", "+0.100, one seed"]


def test_an_experiment_that_was_not_recorded_says_how_to_measure_it(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "RESULTS", tmp_path)
    assert "dyhead-lab experiment dynamic_rho measures it" in recorded_table("dynamic_rho").data

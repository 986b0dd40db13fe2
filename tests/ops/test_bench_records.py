"""README tells what the shipped records of benchmarks hold."""

import json
from pathlib import Path

import pytest

from dyhead_lab.ops.bench.table import RESULTS

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_readme_tells_how_fast_a_detector_was(precision):
    record = json.loads((RESULTS.parent / "bench_detect.json").read_text(encoding="utf-8"))["cpu"]
    times = {row["who"]: row["median_ms"] for row in record["rows"] if row["precision"] == precision}
    told = " ".join(README.read_text(encoding="utf-8").split("**A whole detector**")[1].split("\n\n")[0].split())
    ours, theirs = times["prepared"], times["transformers"]
    for number in (f"{ours:,.0f}", f"{theirs:,.0f}", f"{theirs / ours:.1f} times as long", record["machine"]["date"]):
        assert number in told

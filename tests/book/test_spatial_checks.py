import pytest

from dyhead_book.c05_spatial_aware import spatial_checks as spatial

from .planted import assert_bugs_are_caught

TABLES = {
    "paper": (spatial.check_paper_spatial, spatial.paper_spatial, spatial.PAPER_SPATIAL_MISTAKES),
    "centres": (spatial.check_resized_offsets, spatial.resized_offsets, spatial.OFFSET_MISTAKES),
    "flat": (spatial.check_flat_source, spatial.flat_source, spatial.FLAT_MISTAKES),
}


@pytest.mark.parametrize("name", TABLES)
def test_solutions_pass_and_planted_bugs_are_named(name):
    assert_bugs_are_caught(*TABLES[name])

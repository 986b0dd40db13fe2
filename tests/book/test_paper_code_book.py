"""The page of differences: what it names as this book's answer is there, and every row leads to a chapter."""

import re

import pytest
import torch

from dyhead_book import build
from dyhead_lab.attention import DyHead
from dyhead_lab.attention.spatial import OFFSET_FITS
from dyhead_lab.detectors.detr.sparse_detr import SELECTIONS, SparseDETRConfig

[PAGE] = build.chapters(["21"])
TEXT = build.read_source(PAGE).cells[0].source
ROWS = [line.strip("| ").split(" | ") for line in TEXT.splitlines() if line.startswith("| ") and "[" in line]


def test_every_row_has_five_columns_and_leads_to_a_chapter():
    assert len(ROWS) > 35
    for row in ROWS:
        assert len(row) == 5, row
        links = re.findall(r"\[(\d\d)\]\((\S+?)\.ipynb\)", row[-1])
        assert links and all((build.BOOK / f"c{name}").is_dir() for _, name in links), row[0]


def quoted(option: str) -> set[str]:
    """Values of an option that the page names, in any of its ways."""
    found = set(re.findall(rf'`{option}="([\w-]+)"', TEXT))
    for row in ROWS:  # `offset_fit="flat"` is followed by others in quotes alone
        if f'`{option}="' in row[3]:
            found |= set(re.findall(r'`"(\w+)"`', row[3]))
    return found


def test_all_ways_to_fit_offsets_are_told_and_the_default_is_right():
    assert quoted("offset_fit") == set(OFFSET_FITS)
    assert '`"centres"` (the default' in TEXT and DyHead(16, blocks=1).blocks[0].spatial.offset_fit == "centres"


@pytest.mark.parametrize("levels", sorted(quoted("levels")))
def test_the_readings_of_the_papers_sum_over_levels_are_there(levels):
    pyramid = [torch.zeros(1, 16, size, size) for size in (8, 4, 2)]
    blocks = 1 if levels == "collapse" else 2
    head = DyHead(16, blocks=blocks, form="paper", num_levels=3, levels=levels)
    assert [x.shape for x in head(pyramid)] == [x.shape for x in pyramid]


def test_selection_and_compat_are_there():
    assert quoted("selection") <= set(SELECTIONS)
    assert {SparseDETRConfig(compat=name).compat for name in quoted("compat")} == {"sparse-detr"}


def test_both_forms_are_there():
    assert {DyHead(16, blocks=1, form=form, num_levels=3).form for form in quoted("form")} == {"paper", "released"}

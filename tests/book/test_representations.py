import pytest
import torch

from dyhead_book.c08_dynamic_head_on_detectors.published import ATSS_R50, BACKBONES, DETECTORS, PAPER_GAINS, table
from dyhead_book.c08_dynamic_head_on_detectors.representation_checks import DELTAS_MISTAKES, check_box_from_deltas
from dyhead_lab.zoo import get

from .definitions import definitions
from .planted import assert_bugs_are_caught


def test_bugs():
    solution = definitions("08_dynamic_head_on_detectors")["box_from_deltas"]
    assert_bugs_are_caught(check_box_from_deltas, solution, DELTAS_MISTAKES)


def test_an_answer_number_by_number_is_right():
    def by_hand(anchor, deltas):
        x1, y1, x2, y2 = anchor
        w, h = x2 - x1, y2 - y1
        x, y = (x1 + x2) / 2 + 0.1 * deltas[0] * w, (y1 + y2) / 2 + 0.1 * deltas[1] * h
        w, h = w * torch.exp(0.2 * deltas[2]), h * torch.exp(0.2 * deltas[3])
        return torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2])

    assert check_box_from_deltas(by_hand)


def test_published_numbers_are_those_of_the_recipes():
    with_ = {row.detector: row.with_ for row in DETECTORS}
    recipes = {"ATSS": "atss_r50_dyhead", "RetinaNet": "retinanet_r50_dyhead", "Faster R-CNN": "faster_rcnn_r50_dyhead"}
    for detector, recipe in recipes.items():
        assert get(recipe).published_ap == pytest.approx(with_[detector] / 100)
    assert ATSS_R50["released code"] == with_["ATSS"]
    assert PAPER_GAINS[0] < PAPER_GAINS[1]
    for backbone, recipe in {"ResNet-101": "atss_r101_dyhead", "ResNeXt-101 64x4d": "atss_x101_64x4d_dyhead"}.items():
        assert get(recipe).published_ap == pytest.approx(BACKBONES[backbone] / 100)


def test_the_table_has_every_detector_and_names_its_sources():
    lines = table().splitlines()
    assert len(lines) == 2 + len(DETECTORS)
    for row, line in zip(DETECTORS, lines[2:], strict=True):
        assert row.detector in line and row.source_without in line
        assert (row.with_ is None) == (not row.source_with)

import numpy as np
import pytest

from dyhead_book.c01_feature_pyramid.precision_recall import precision_recall_figure


def test_the_curve_takes_the_most_certain_detection_first():
    scores, correct = np.array([0.2, 0.9, 0.5]), np.array([True, True, False])
    (axes,) = precision_recall_figure({"IoU 0.5": (scores, correct)}, objects=4).axes
    (line,) = axes.lines
    assert line.get_xdata().tolist() == [0.25, 0.25, 0.5]
    assert line.get_ydata() == pytest.approx([1, 1 / 2, 2 / 3])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["IoU 0.5"]


def test_the_area_begins_at_recall_0_as_ap_does():
    scores, correct = np.array([0.9, 0.5, 0.2]), np.array([False, True, True])
    (axes,) = precision_recall_figure({"IoU 0.5": (scores, correct)}, objects=2).axes
    corners = axes.collections[0].get_paths()[0].vertices
    assert corners[:, 0].min() == 0 and corners[corners[:, 0] == 0, 1].max() == pytest.approx(2 / 3)


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="objects: got 0"):
        precision_recall_figure({}, objects=0)
    with pytest.raises(ValueError, match=r"detections: IoU 0\.5 has none"):
        precision_recall_figure({"IoU 0.5": (np.array([]), np.array([], bool))}, objects=3)

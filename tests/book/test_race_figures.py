import pytest

from dyhead_book.c16_kernel_race.race_figures import race_figure, roofline_figure, shares_figure
from dyhead_lab.views.figures import Picture


def row(problem, who, ms, floor_ms):
    return {"problem": problem, "who": who, "median_ms": ms, "fraction_of_floor": floor_ms / ms}


def test_every_contender_has_a_dot_and_every_problem_its_floor():
    rows = [row("a", "ours", 4.0, 2.0), row("a", "theirs", 8.0, 2.0), row("b", "ours", 3.0, 1.0)]
    figure = race_figure(rows)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(lines["ours"].get_xdata()) == [4.0, 3.0] and list(lines["ours"].get_ydata()) == [0, 1]
    assert list(lines["theirs"].get_xdata()) == [8.0]
    assert list(lines["floor"].get_xdata()) == pytest.approx([2.0, 1.0])
    assert Picture(figure, alt="dots").png


def test_the_roof_rises_with_the_bandwidth_and_ends_at_the_rate():
    figure = roofline_figure(10e9, 100e9, {"ours": {"a": (4.0, 20e9)}})
    roof, ours, corner = figure.axes[0].lines
    for intensity, gflops in zip(roof.get_xdata(), roof.get_ydata(), strict=True):
        assert gflops == pytest.approx(min(10 * intensity, 100))
    assert list(ours.get_ydata()) == [20]
    assert corner.get_xdata()[0] == 10
    assert Picture(figure, alt="roof").png


def test_steps_stand_side_by_side_with_their_shares():
    figure = shares_figure({"places": 0.001, "product": 0.003})
    assert [bar.get_width() for bar in figure.axes[0].patches] == pytest.approx([1, 3])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["places, 25%", "product, 75%"]

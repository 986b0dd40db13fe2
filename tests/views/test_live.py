"""Live curves: what a log becomes on the page, how a run drives it, and how a recorded run plays again."""

import json

import pytest

import dyhead_lab
from dyhead_lab import zoo
from dyhead_lab.data.shapes import write_shapes
from dyhead_lab.errors import UserError
from dyhead_lab.training import train
from dyhead_lab.training.observer import ProgressBar
from dyhead_lab.views import live
from dyhead_lab.views.curves import LOSS, MOST_LINES, OVERLAP, RATE, RATIO, Curve, comparison_figure, curves, run_figure
from dyhead_lab.views.live import LiveCurves, duration, replay

LOG = [
    {"iteration": 20, "lr": 0.1, "images_per_second": 5.0, "waiting": 0.1, "loss": 3.0, "box": 2.0, "class": 1.0},
    {"iteration": 40, "lr": 0.2, "images_per_second": 5.0, "waiting": 0.1, "loss": 2.0, "box": 1.5, "class": 0.5},
    {"iteration": 40, "AP": 0.25, "AP50": 0.5, "AP75": -1.0, "AP_small": 0.1},
    {"iteration": 40, "scale_ratio/1/2": 1.1, "dam_overlap": 0.75},
]


def test_a_log_becomes_curves_by_panel():
    found = curves(LOG)
    assert found[LOSS] == {
        "sum": Curve([20, 40], [3.0, 2.0]),
        "box": Curve([20, 40], [2.0, 1.5]),
        "class": Curve([20, 40], [1.0, 0.5]),
    }
    assert found[RATE] == {"lr": Curve([20, 40], [0.1, 0.2])}
    assert found["AP on validation"] == {"AP": Curve([40], [0.25]), "AP50": Curve([40], [0.5])}  # AP75 is undefined
    assert found[RATIO] == {"block 1, level 2": Curve([40], [1.1])}
    assert list(found[OVERLAP].values()) == [Curve([40], [0.75])]
    assert curves(LOG[2:3]).keys() == {"AP on validation"}


def test_of_many_losses_the_largest_are_kept():
    parts = {f"part{i:02}": float(i) for i in range(20)}
    kept = curves([{"iteration": 1, "loss": 190.0, **parts}])[LOSS]
    assert list(kept) == ["sum", *(f"part{i}" for i in range(20 - MOST_LINES + 1, 20))]


@pytest.mark.parametrize(
    ("points", "most", "kept"), [(5, 10, [0, 1, 2, 3, 4]), (10, 5, [1, 3, 5, 7, 9]), (7, 3, [0, 3, 6])]
)
def test_thinned_curves_keep_the_last_point(points, most, kept):
    curve = Curve(list(range(points)), [float(i) for i in range(points)]).thinned(most)
    assert curve.iterations == kept and curve.values == kept


def test_figures_have_a_panel_for_each_kind():
    titles = [axes.get_title(loc="left") for axes in run_figure(LOG).axes]
    assert titles == ["Loss", "Learning rate", "AP on validation", "Scale ratio", "DAM overlap"]
    both = comparison_figure({"one": LOG, "two": LOG[:1]})
    assert [axes.get_title(loc="left") for axes in both.axes] == ["Loss", "AP", "AP50", "Learning rate"]
    assert [line.get_label() for line in both.axes[0].lines] == ["one", "two"]
    with pytest.raises(ValueError, match="nothing to draw"):
        comparison_figure({"empty": []})


@pytest.mark.parametrize(("seconds", "text"), [(4.4, "4 s"), (95, "1 min 35 s"), (3 * 3600 + 60, "3 h 1 min")])
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.fixture
def shown(monkeypatch):
    """What live curves display, in place of a notebook."""
    shown = []

    class Handle:
        def update(self, widget):
            shown.append(("update", widget))

    def display(widget, display_id):
        shown.append(("display", widget))
        return Handle()

    monkeypatch.setattr(live, "display", display)
    return shown


def test_a_run_drives_the_page_and_the_button_stops_it(shown, monkeypatch):
    monkeypatch.setattr(live, "UPDATE", 0)
    page = LiveCurves()
    assert "not logged anything" in page.picture().alt
    page.begin(zoo.get("quickstart"), [])
    assert page.running and page.iterations == zoo.get("quickstart").iterations
    page.advance(40)
    assert page.iteration == 40 and page.status.startswith("iteration 40 of") and page.status.endswith("left")
    for entry in LOG:
        page.note(entry)
    assert page.curves[LOSS]["sum"] == [[20, 40], [3.0, 2.0]]
    titles = [title for title, _ in page.get_state()["curves"]]
    assert titles == ["Loss", "Learning rate", "AP on validation", "Scale ratio", "DAM overlap"], (
        "the page gets an order"
    )
    assert not page.asks_to_stop()
    page.set_state({"stop": True})  # what a click sends
    assert page.asks_to_stop()
    page.end("stopped at iteration 40")
    assert not page.running and page.status == "stopped at iteration 40"
    assert [what for what, _ in shown] == ["display", "update"]
    assert "Loss from 3.000 to 2.000" in page.picture().alt and "AP from 0.250 to 0.250" in page.picture().alt


def test_a_continued_run_shows_what_came_before(shown):
    page = LiveCurves()
    page.begin(zoo.get("quickstart"), LOG[:1])
    assert page.curves[LOSS]["sum"] == [[20], [3.0]] and page.iteration == 20


def test_there_is_one_train():
    assert dyhead_lab.train is train


def test_train_in_a_cell_is_watched_and_stops_without_an_error(tmp_path, shown, monkeypatch):
    for split, images in (("train", 4), ("val", 2)):
        write_shapes(tmp_path / "data" / split, images=images, seed=1, size=64)
    settings = {"iterations": 2, "batch_size": 1, "precision": "fp32", "model": {"image_size": 64}}
    monkeypatch.setattr(live, "in_notebook", lambda: True)
    monkeypatch.setattr(LiveCurves, "asks_to_stop", lambda self: True)
    assert dyhead_lab.train("quickstart", tmp_path / "data", tmp_path / "run", **settings) is None
    assert "stopped at iteration 1 of 2" in shown[-1][1].status
    result = dyhead_lab.train("quickstart", tmp_path / "data", tmp_path / "run", **settings)
    assert "AP" in result.numbers and "finished" in shown[-1][1].status


def test_outside_of_a_notebook_there_is_a_bar(capsys):
    assert not live.in_notebook()
    bar = ProgressBar()
    bar.begin(zoo.get("quickstart"), LOG[:1])
    bar.advance(40)
    for entry in LOG[1:2]:
        bar.note(entry)
    bar.end("the end")
    printed = capsys.readouterr()
    assert "loss=2.000" in printed.err and "40/" in printed.err and printed.out == "the end\n"


def test_a_log_plays_again(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(json.dumps(entry) for entry in LOG), encoding="utf-8")
    for source in (path, tmp_path):
        page = replay(source)
        assert page.replay and page.iterations == 40 and page.curves[LOSS]["box"] == [[20, 40], [2.0, 1.5]]
    data, metadata = page._repr_mimebundle_()
    assert data["image/png"] and "40 iterations" in metadata["image/png"]["alt"]


def test_what_is_no_log_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"expected the log\.jsonl of a run"):
        replay(tmp_path / "missing.jsonl")

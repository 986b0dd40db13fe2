"""The scale explorer of a training: renewed after each checkpoint, and the run does not notice."""

from types import SimpleNamespace

import pytest
import torch

from dyhead_lab.data.shapes import draw_set, write_shapes
from dyhead_lab.errors import UserError
from dyhead_lab.training import train
from dyhead_lab.training.observer import Together
from dyhead_lab.views import live_scale
from dyhead_lab.views.live_scale import LiveScale
from dyhead_lab.views.scale_explorer import RATIO, scale_numbers
from dyhead_lab.zoo import load_trained

LEVELS = ["P3", "P4", "P5", "P6"]
SETTINGS = {"iterations": 4, "checkpoint_every": 2, "batch_size": 2, "precision": "fp32", "lr": 0.01, "warmup": 1}


@pytest.fixture(scope="module")
def images():
    return [torch.from_numpy(picture).permute(2, 0, 1) / 255 for picture, _ in draw_set(3, 7, 64)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for split, count in (("train", 4), ("val", 2)):
        write_shapes(folder / split, images=count, seed=1, size=64)
    return folder


def run(data, out, watching=()):
    return train("quickstart", data, out, watching=watching, model={"image_size": 64}, **SETTINGS)


def test_every_checkpoint_is_shown_and_the_run_does_not_notice(data, images, tmp_path, monkeypatch):
    ratios = LiveScale(tmp_path / "seen", images, LEVELS)
    assert ratios.explorer.medians[RATIO] == [[1.0] * 4] and ratios.explorer.status == "no checkpoint yet"
    shown = []
    pictures = []
    handle = SimpleNamespace(update=lambda explorer: pictures.append(explorer.status))
    monkeypatch.setattr(live_scale, "display", lambda explorer, display_id: handle)
    ratios.show()
    ratios.explorer.observe(lambda change: shown.append(change["new"]), names="status")
    run(data, tmp_path / "seen", [ratios])
    assert shown == ["iteration 2", "iteration 4"]
    assert pictures == ["iteration 4"], "the last picture stays"
    run(data, tmp_path / "alone")
    seen, alone = (load_trained(tmp_path / name).model for name in ("seen", "alone"))
    assert all(torch.equal(a, b) for a, b in zip(seen.state_dict().values(), alone.state_dict().values(), strict=True))

    again = LiveScale(tmp_path / "seen", images, LEVELS).explorer
    assert again.status == "iteration 4" and again.medians == ratios.explorer.medians
    kept = scale_numbers(seen, images, 4)[RATIO]
    for l, median in enumerate(again.medians[RATIO][0]):
        # weights.pt is in half precision: 11 bits
        assert median == pytest.approx(float(kept[0][l].quantile(0.5)), rel=2e-3)


def test_without_a_checkpoint_there_is_nothing_to_look_at(images, tmp_path):
    with pytest.raises(UserError, match=r"last\.pt"):
        LiveScale(tmp_path, images, LEVELS).look()


class Recorder:
    def __init__(self, stops):
        self.calls, self.stops = [], stops

    def begin(self, recipe, entries):
        self.calls.append("begin")

    def advance(self, iteration):
        self.calls.append(iteration)

    def note(self, entry):
        self.calls.append(entry["iteration"])

    def end(self, message):
        self.calls.append(message)

    def asks_to_stop(self):
        return self.stops


@pytest.mark.parametrize("stops", [(False, False), (False, True), (True, False)])
def test_several_observers_see_the_same_and_each_may_stop(stops):
    observers = [Recorder(s) for s in stops]
    both = Together(observers)
    both.begin(None, [])
    both.advance(1)
    both.note({"iteration": 2})
    both.end("done")
    assert [o.calls for o in observers] == [["begin", 1, 2, "done"]] * 2
    assert both.asks_to_stop() == any(stops)

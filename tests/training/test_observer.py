"""A run tells its observer, stops on request without losing anything, and leaves a folder that explains itself."""

import json
import os
import signal
import threading

import pytest
import torch
from torch import nn

from dyhead_lab import zoo
from dyhead_lab.attention import DyHead
from dyhead_lab.data.shapes import write_shapes
from dyhead_lab.detectors.detr.dam import correlation
from dyhead_lab.errors import UserError
from dyhead_lab.evaluation.coco_metric import METRICS, UNDEFINED
from dyhead_lab.trace import emit
from dyhead_lab.training import train
from dyhead_lab.training.checkpoint import CHECKPOINT, read
from dyhead_lab.training.engine import Engine
from dyhead_lab.training.interrupt import Interrupted, interrupt_as_request
from dyhead_lab.training.observer import ProgressBar, Silent, Together
from dyhead_lab.training.probes import probe
from dyhead_lab.training.provenance import git_state
from dyhead_lab.training.run_folder import read_json
from dyhead_lab.training.train import Stretch

SETTINGS = {
    "iterations": 20,
    "batch_size": 1,
    "checkpoint_every": 10,
    "evaluate_every": 10,
    "warmup": 2,
    "precision": "fp32",
    "model.image_size": 64,
}


class Notebook(Silent):
    """Keeps what it is told; asks to stop after an iteration."""

    def __init__(self, stop_after=None):
        self.stop_after, self.told, self.iterations, self.noted = stop_after, [], [], []

    def begin(self, recipe, entries):
        self.told.append(("begin", [entry["iteration"] for entry in entries]))

    def advance(self, iteration):
        self.iterations.append(iteration)

    def note(self, entry):
        self.noted.append(dict(entry))

    def asks_to_stop(self):
        return bool(self.iterations) and self.iterations[-1] == self.stop_after

    def end(self, message):
        self.told.append(("end", message))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder / "train", images=10, seed=1, size=64)
    write_shapes(folder / "val", images=3, seed=2, size=64)
    return folder


def run(pictures, out, observer, **changes):
    recipe = zoo.get("quickstart")
    return train(recipe, data=pictures, out=out, progress=False, changes={**SETTINGS, **changes}, observer=observer)


@pytest.fixture(scope="module")
def stopped_and_continued(pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    first, second = Notebook(stop_after=5), Notebook()
    with pytest.raises(Interrupted, match=r"stopped at iteration 5 of 20 and saved; the same command continues"):
        run(pictures, out, first)
    at_stop = read(out / "last.pt", CHECKPOINT)["iteration"]
    result = run(pictures, out, second)
    return out, first, second, at_stop, result


def test_a_run_that_is_asked_to_stop_is_saved_and_continues(stopped_and_continued):
    _, first, second, at_stop, _ = stopped_and_continued
    assert at_stop == 5
    assert first.iterations == list(range(1, 6)) and second.iterations == list(range(6, 21))
    assert first.told[-1] == ("end", first.told[-1][1]) and "stopped at iteration 5" in first.told[-1][1]
    assert second.told[0] == ("begin", [5])  # the probe that was logged with the checkpoint
    assert "finished" in second.told[-1][1]


def test_the_log_holds_what_the_observer_was_told(stopped_and_continued):
    out, first, second, _, result = stopped_and_continued
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert entries == first.noted + second.noted
    (losses,) = (entry for entry in entries if "loss" in entry)
    parts = ("classification", "bbox_regression", "bbox_ctrness")
    # means of the parts add up to the mean of the sum, to float32 rounding
    assert losses["iteration"] == 20 and sum(losses[part] for part in parts) == pytest.approx(losses["loss"], rel=1e-5)
    assert losses["images_per_second"] > 0 and 0 <= losses["waiting"] < 1
    assert [entry["iteration"] for entry in entries if "AP" in entry] == [10, 20]
    assert [entry["iteration"] for entry in entries if "scale_ratio/1/4" in entry] == [5, 10, 20]
    assert entries[-1]["AP"] == result["AP"]


def evaluations(out):
    """Iteration and AP of every evaluation in a log."""
    return [(e["iteration"], e["AP"]) for e in map(json.loads, (out / "log.jsonl").open(encoding="utf-8")) if "AP" in e]


def test_an_evaluation_that_a_stop_prevented_is_made_up_for(stopped_and_continued, pictures, tmp_path, monkeypatch):
    """Asked to stop right before it, and killed in it: the log ends up with the same numbers, each once."""
    with pytest.raises(Interrupted, match="iteration 10"):
        run(pictures, tmp_path, Notebook(stop_after=10))
    assert evaluations(tmp_path) == [] and read(tmp_path / "last.pt", CHECKPOINT)["iteration"] == 10

    def killed(engine, model):
        raise SystemExit("killed")

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr("dyhead_lab.training.engine.Engine.evaluate", killed)
        run(pictures, tmp_path, Notebook())
    again = Notebook()
    run(pictures, tmp_path, again)
    assert again.iterations == list(range(11, 21))
    assert evaluations(tmp_path) == evaluations(stopped_and_continued[0])


def test_a_checkpoint_precedes_each_evaluation(pictures, tmp_path, monkeypatch):
    saved = []
    evaluate = Engine.evaluate

    def look(engine, model):
        saved.append(read(tmp_path / "last.pt", CHECKPOINT)["iteration"])
        return evaluate(engine, model)

    monkeypatch.setattr(Engine, "evaluate", look)
    run(pictures, tmp_path, Notebook(), iterations=4, evaluate_every=3, checkpoint_every=100)
    assert saved == [3]


class Clumsy(Silent):
    """Fails whenever it is told something, and counts how often that was."""

    def __init__(self, fails_at):
        self.fails_at, self.told = fails_at, 0

    def __getattribute__(self, name):
        if name == object.__getattribute__(self, "fails_at"):
            object.__setattr__(self, "told", object.__getattribute__(self, "told") + 1)
            raise ZeroDivisionError(f"in {name}")
        return object.__getattribute__(self, name)


@pytest.mark.parametrize("fails_at", ["begin", "advance", "note", "asks_to_stop", "end"])
def test_a_watcher_that_fails_is_left_out(fails_at):
    clumsy, careful = Clumsy(fails_at), Notebook()
    both = Together([clumsy, careful])
    with pytest.warns(UserWarning, match=f"Clumsy watches no longer.*ZeroDivisionError: in {fails_at}"):
        both.begin(None, [])
        for iteration in (1, 2):
            both.advance(iteration)
            both.note({"iteration": iteration})
            assert not both.asks_to_stop()
        both.end("done")
    assert clumsy.told == 1 and careful.iterations == [1, 2] and careful.told[-1] == ("end", "done")


def test_neither_a_watcher_nor_a_probe_ends_a_run(pictures, tmp_path, monkeypatch):
    """Both fail at the first checkpoint, which is there by then; each is told once."""

    def broken(model, images):
        assert read(tmp_path / "last.pt", CHECKPOINT)["iteration"] in (10, 20)  # saving comes before looking
        raise KeyError("scale_weights")

    monkeypatch.setattr("dyhead_lab.training.probes.probe", broken)
    settings = {**SETTINGS, "evaluate_every": 20}
    with pytest.warns(UserWarning) as warned:
        result = train("quickstart", pictures, tmp_path, progress=False, changes=settings, watching=[Clumsy("note")])
    assert "AP" in result.numbers
    texts = [str(warning.message) for warning in warned]
    assert sum("Clumsy watches no longer" in text for text in texts) == 1
    assert sum("no numbers of attention in the log" in text and "KeyError" in text for text in texts) == 1


def test_a_probe_that_a_kill_prevented_is_made_up_for(stopped_and_continued, pictures, tmp_path, monkeypatch):
    def killed(model, images):
        raise SystemExit("killed")

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr("dyhead_lab.training.probes.probe", killed)
        run(pictures, tmp_path, Notebook())
    assert read(tmp_path / "last.pt", CHECKPOINT)["iteration"] == 10
    run(pictures, tmp_path, Notebook())
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").open(encoding="utf-8")]
    assert [entry["iteration"] for entry in entries if "scale_ratio/1/4" in entry] == [10, 20]


def test_a_finished_run_that_is_started_again_changes_no_number(stopped_and_continued, pictures):
    out, _, _, _, result = stopped_and_continued
    before = (out / "log.jsonl").read_text(encoding="utf-8")
    watching = Notebook()
    assert run(pictures, out, watching).numbers == result.numbers
    assert (out / "log.jsonl").read_text(encoding="utf-8") == before and watching.iterations == []


def test_what_is_not_defined_is_shown_as_a_dash(capsys):
    """A set without large objects has no AP of them, and it is not -1."""
    bar = ProgressBar()
    bar.begin(zoo.get("quickstart"), [])
    bar.note({"iteration": 2, **dict.fromkeys(METRICS, 0.25), "AP_large": UNDEFINED})
    bar.end("over")
    shown = capsys.readouterr().out
    assert "AP 0.250" in shown and "AP_large -\n" in shown and "-1" not in shown


def test_the_folder_says_where_the_run_came_from_and_what_it_reached(stopped_and_continued, pictures):
    out, _, _, _, result = stopped_and_continued
    origin = read_json(out / "run.json")
    assert origin["recipe"] == "quickstart" and origin["settings"]["batch_size"] == 1
    places = {"annotations": str(pictures / "train/annotations.json"), "folder": str(pictures / "train/images")}
    assert origin["data"]["train"] == {**places, "images": 10}
    assert [start["iteration"] for start in origin["starts"]][:2] == [0, 5]
    assert origin["starts"][0]["machine"]["torch"] == torch.__version__.split("+")[0]
    metrics = read_json(out / "metrics.json")
    assert metrics["numbers"] == result.numbers and set(metrics["numbers"]) == set(METRICS)
    assert metrics["per_class"] == result.per_class
    assert 0 < metrics["memory"]["activations"] < metrics["memory"]["peak"]
    found = read_json(out / "detections.json")
    assert found and set(found[0]) == {"image_id", "category_id", "bbox", "score"}


def test_a_fraction_trains_on_fewer_images_and_is_a_setting_of_the_run(pictures, tmp_path):
    run(pictures, tmp_path, Notebook(), fraction=0.3, iterations=1)
    assert read_json(tmp_path / "run.json")["data"]["train"]["images"] == 3
    with pytest.raises(UserError, match=r"fraction was 0\.3, is 1\.0"):
        run(pictures, tmp_path, Notebook(), iterations=1)


def test_ctrl_c_ends_the_step_before_it_stops(pictures, tmp_path):
    class PressesCtrlC(Notebook):
        def advance(self, iteration):
            super().advance(iteration)
            if iteration == 3:
                os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="iteration 3"):
        run(pictures, tmp_path, PressesCtrlC())
    assert read(tmp_path / "last.pt", CHECKPOINT)["iteration"] == 3
    assert signal.getsignal(signal.SIGINT) is before


@pytest.fixture
def hears_interrupts():
    """A program that a shell starts in the background ignores them, and so would the tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_second_interrupt_is_not_held_back(hears_interrupts):
    with pytest.raises(KeyboardInterrupt), interrupt_as_request() as asked:
        os.kill(os.getpid(), signal.SIGINT)
        assert asked()
        os.kill(os.getpid(), signal.SIGINT)


def test_outside_of_the_main_thread_there_are_no_interrupts():
    answers = []

    def work():
        with interrupt_as_request() as asked:
            answers.append(asked())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert answers == [False]


def test_stretches_average_what_there_is_and_start_anew():
    stretch = Stretch(batch_size=2)
    losses = iter([{"loss": 1.0}, {}, {"loss": 3.0}])
    for _ in stretch.timed(range(3)):
        stretch.add(next(losses))
    numbers = stretch.numbers()
    assert numbers["loss"] == 2.0 and 0 <= numbers["waiting"] <= 1 and numbers["images_per_second"] > 0
    for _ in stretch.timed(range(1)):
        stretch.add({"loss": 5.0})
    assert stretch.numbers()["loss"] == 5.0


class Selective(nn.Module):
    """A stand-in for Sparse DETR: a known attention map of four tokens, of which it keeps two, or one."""

    dam_BN = torch.tensor([[4.0, 3.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    kept_BT = torch.tensor([[0, 2], [3, -1]])

    def forward(self, images):
        emit(self, dam=self.dam_BN, kept_tokens=self.kept_BT)


def test_overlap_of_the_decoder_attention_map():
    # Image 1: tokens 0 and 2 receive 6 of 10; image 2: token 3 receives 1 of 4, -1 stands for none.
    assert probe(Selective(), []) == {"dam_overlap": pytest.approx((0.6 + 0.25) / 2, abs=1e-4)}
    kept = torch.tensor([[True, False, True, False], [False, False, False, True]])
    assert float(correlation(Selective.dam_BN, kept)[0]) == pytest.approx(0.425)


@pytest.mark.parametrize("form", ["released", "paper"])
def test_scale_ratios_per_block_and_level(form):
    torch.manual_seed(0)
    head = DyHead(16, blocks=2, form=form, **({"num_levels": 3} if form == "paper" else {}))

    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = head

        def forward(self, images):
            return self.head([torch.ones(1, 16, size, size) for size in (8, 4, 2)])

    detector = Detector().train()
    ratios = probe(detector, [])
    assert set(ratios) == {f"scale_ratio/{block}/{level}" for block in (1, 2) for level in (1, 2, 3)}
    assert all(value > 0 for value in ratios.values()) and detector.training
    assert probe(nn.Identity(), []) == {}


def test_a_folder_that_cannot_be_written_is_named(pictures, tmp_path):
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    with pytest.raises(UserError, match=r"cannot write .*file/run: Not a directory; choose another"):
        run(pictures, tmp_path / "file/run", Notebook(), iterations=1)


def test_outside_of_git_there_is_no_state(tmp_path):
    assert git_state(tmp_path) is None
    assert git_state(None) is None  # an installed package, in whosever repository it may lie

"""Experiments: every run once, kept, continued, paired by seed."""

import json
from dataclasses import dataclass, field

import pytest
import torch

from dyhead_lab import zoo
from dyhead_lab.cli import main
from dyhead_lab.commands import experiment as command
from dyhead_lab.data.shapes import write_shapes
from dyhead_lab.errors import UserError
from dyhead_lab.experiments.catalogue import EXPERIMENTS, RESULTS, recorded
from dyhead_lab.experiments.experiment import Experiment, Job, Training, run_experiment
from dyhead_lab.experiments.record import Record
from dyhead_lab.training.engine import Engine
from dyhead_lab.zoo.datasets import coco, dataset, shapes

SMOKE = {"iterations": 4, "batch_size": 2, "checkpoint_every": 2, "warmup": 2, "precision": "fp32"}


@dataclass
class Counting:
    """A row that costs nothing and counts its runs; it fails at seeds in ``broken``."""

    value: float
    calls: list = field(default_factory=list)
    broken: set = field(default_factory=set)

    def settings(self, job: Job):
        return {"value": self.value, **job.changes}

    def measure(self, job: Job):
        if job.seed in self.broken:
            raise KeyboardInterrupt
        self.calls.append(job.seed)
        return {"AP": self.value + job.seed}


def toy(**rows):
    return Experiment("toy", "rows that cost nothing", rows, baseline="a", metrics=("AP",))


def quiet(line):
    pass


def test_every_row_is_measured_with_every_seed(tmp_path):
    rows = {"a": Counting(0.0), "b": Counting(0.5)}
    record = run_experiment(toy(**rows), tmp_path, say=quiet)
    assert {name: row.calls for name, row in rows.items()} == {"a": [0, 1, 2], "b": [0, 1, 2]}
    assert record.difference("b", "AP").mean == pytest.approx(0.5)
    assert not list(record.missing())


def test_stopped_experiment_does_only_what_is_missing(tmp_path):
    a, b = Counting(0.0), Counting(0.5, broken={1})
    with pytest.raises(KeyboardInterrupt):
        run_experiment(toy(a=a, b=b), tmp_path, say=quiet)
    kept = json.loads((tmp_path / "toy.json").read_text(encoding="utf-8"))["runs"]
    assert {(run["row"], run["seed"]) for run in kept} == {("a", 0), ("b", 0), ("a", 1)}
    b.broken.clear()
    record = run_experiment(toy(a=a, b=b), tmp_path, say=quiet)
    assert (a.calls, b.calls) == ([0, 1, 2], [0, 1, 2])
    assert not list(record.missing())


def test_runs_of_another_machine_are_taken_over(tmp_path):
    there = run_experiment(toy(a=Counting(0.0), b=Counting(0.5)), tmp_path / "there", seeds=[0], say=quiet)
    a, b = Counting(0.0), Counting(0.5)
    record = run_experiment(toy(a=a, b=b), tmp_path / "here", seeds=[2], say=quiet, known=there)
    assert (a.calls, b.calls) == ([2], [2])
    assert record.seeds == (0, 2) and not list(record.missing())
    assert record.machines["a"][0] == there.machines["a"][0]
    assert Record.load(tmp_path / "here" / "toy.json") == record


def test_half_a_seed_of_another_machine_is_completed(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_experiment(toy(a=Counting(0.0), b=Counting(0.5, broken={1})), tmp_path / "there", say=quiet)
    there = Record.load(tmp_path / "there" / "toy.json")
    a, b = Counting(0.0), Counting(0.5)
    record = run_experiment(toy(a=a, b=b), tmp_path / "here", say=quiet, known=there)
    assert (a.calls, b.calls) == ([2], [1, 2])
    assert record.seeds == (0, 1, 2) and not list(record.missing())


def test_runs_of_another_experiment_are_refused(tmp_path):
    there = run_experiment(toy(a=Counting(0.0)), tmp_path / "there", seeds=[0], say=quiet)
    with pytest.raises(UserError, match=r"expected rows .*'b'"):
        run_experiment(toy(a=Counting(0.0), b=Counting(0.5)), tmp_path / "here", say=quiet, known=there)


def test_finished_run_with_other_settings_is_refused(tmp_path):
    run_experiment(toy(a=Counting(0.0)), tmp_path, seeds=[0], say=quiet)
    with pytest.raises(UserError, match=r"value was 0\.0, is 1\.0.*--out"):
        run_experiment(toy(a=Counting(1.0)), tmp_path, seeds=[0], say=quiet)


def test_settings_that_did_not_exist_yet_are_those_of_every_recipe(tmp_path):
    """A new field of recipes does not make old runs worthless; a new value of it does."""

    class Newer(Counting):
        def settings(self, job: Job):
            return {"momentum": 0.9, "milestones": (), **super().settings(job)}

    old, same = Counting(0.0), Newer(0.0)
    run_experiment(toy(a=old), tmp_path, seeds=[0], say=quiet)
    run_experiment(toy(a=same), tmp_path, seeds=[0], say=quiet)
    assert same.calls == []
    with pytest.raises(UserError, match=r"momentum was 0\.9, is 0\.5"):
        run_experiment(toy(a=same), tmp_path, seeds=[0], changes={"momentum": 0.5}, say=quiet)


def test_baseline_must_be_a_row():
    with pytest.raises(ValueError, match="baseline: expected one of b"):
        toy(b=Counting(0.0))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder / "train", images=4, seed=1, size=64)
    write_shapes(folder / "val", images=2, seed=2, size=64)
    return folder


def training_job(folder, pictures):
    return Job(3, folder, str(pictures), {**SMOKE, "model.image_size": 64})


def test_interrupted_training_continues_from_its_checkpoint(tmp_path, pictures, monkeypatch):
    """Killed at step 3 of 4, it does only the two steps after the checkpoint, and ends with the same weights."""
    row = Training(zoo.get("quickstart"))
    whole = row.measure(training_job(tmp_path / "whole", pictures))
    step, steps = Engine.step, []

    def counting(engine, *batch):
        steps.append(engine.iteration)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return step(engine, *batch)

    monkeypatch.setattr(Engine, "step", counting)
    with pytest.raises(KeyboardInterrupt):
        row.measure(training_job(tmp_path / "cut", pictures))
    resumed = row.measure(training_job(tmp_path / "cut", pictures))
    assert steps == [0, 1, 2, 3, 2, 3]
    assert resumed == whole
    first, second = (torch.load(tmp_path / run / "weights.pt")["state_dict"] for run in ("whole", "cut"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_settings_of_a_training_name_all_that_decides(tmp_path, pictures):
    settings = Training(zoo.get("quickstart"), {"lr": 0.5}).settings(training_job(tmp_path, pictures))
    assert (settings["recipe"], settings["data"]) == ("quickstart", str(pictures))
    assert (settings["seed"], settings["lr"], settings["iterations"]) == (3, 0.5, 4)
    assert settings["model"]["image_size"] == 64


def test_command_measures_prints_and_stores(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(EXPERIMENTS, "toy", toy(a=Counting(0.0), b=Counting(0.5)))
    monkeypatch.setattr(command, "refuse_unknown_experiment", lambda name: None)  # it asks listing.tsv
    words = ["experiment", "toy", "--seeds", "4", "6", "--set", "iterations=3", "--out", str(tmp_path)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    record = Record.load(tmp_path / "toy.json")
    assert record.table() in printed
    assert record.seeds == (4, 6) and record.spread("b", "AP").mean == 5.5
    # What to type again, whatever the folder of this machine.
    assert record.command == "dyhead-lab experiment toy --seeds 4 6 --set iterations=3"
    assert {"device", "threads", "date", "torch"} <= set(record.machines["a"][4])


def test_command_takes_over_what_was_measured_with_the_same_settings(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(EXPERIMENTS, "toy", toy(a=Counting(0.0), b=Counting(0.5)))
    monkeypatch.setattr(command, "refuse_unknown_experiment", lambda name: None)  # it asks listing.tsv
    words = ["experiment", "toy", "--set", "iterations=3"]
    assert main([*words, "--seeds", "1", "2", "--out", str(tmp_path / "there")]) == 0
    known = ["--known", str(tmp_path / "there" / "toy.json")]
    assert main([*words, *known, "--seeds", "4", "--out", str(tmp_path / "here")]) == 0
    record = Record.load(tmp_path / "here" / "toy.json")
    assert record.seeds == (1, 2, 4) and not list(record.missing())
    assert record.command == "dyhead-lab experiment toy --seeds 1 2 4 --set iterations=3"
    assert main([*words, *known, "--seeds", "0", "--out", str(tmp_path / "whole")]) == 0  # 0, 1, 2 are its own
    assert Record.load(tmp_path / "whole" / "toy.json").command == "dyhead-lab experiment toy --set iterations=3"
    capsys.readouterr()
    assert main(["experiment", "toy", *known, "--seeds", "4", "--out", str(tmp_path / "other")]) == 1
    assert "iterations=3" in capsys.readouterr().err


def test_data_are_named_or_a_folder(pictures):
    assert dataset("coco") is coco and dataset("shapes") is shapes
    assert len(dataset(str(pictures))("val")) == 2


def test_command_shows_what_is_recorded(capsys):
    shipped = [name for name in EXPERIMENTS if (RESULTS / f"{name}.json").exists()]
    for name in shipped:
        assert main(["experiment", name, "--show"]) == 0
        assert capsys.readouterr().out == recorded(name).table() + "\n"


def test_command_names_what_it_does_not_know(capsys):
    assert main(["experiment", "ablatoin"]) == 1
    assert "did you mean ablation?" in capsys.readouterr().err
    assert main(["experiment", "ablation", "--show", "--seeds", "1"]) == 1
    assert "takes no other option" in capsys.readouterr().err


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_records_are_those_of_their_experiments(name):
    if not (RESULTS / f"{name}.json").exists():
        pytest.skip(f"nothing is recorded of {name}")
    experiment, record = EXPERIMENTS[name], recorded(name)
    assert (record.name, record.baseline, record.rows) == (name, experiment.baseline, tuple(experiment.rows))
    assert record.metrics == experiment.metrics

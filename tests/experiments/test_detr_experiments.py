"""The experiments on DETR's family run from end to end on a smoke budget, and share what they train."""

import pytest
import torch

from dyhead_lab.detectors.image_batch import pad_images
from dyhead_lab.evaluation.token_use import _attention_map
from dyhead_lab.experiments import detr_rows
from dyhead_lab.experiments.catalogue import EXPERIMENTS
from dyhead_lab.experiments.curves import curve
from dyhead_lab.experiments.detr_experiments import (
    BORROWED_TOKENS,
    CONVERGENCE,
    DECODER,
    DETR_EXPERIMENTS,
    DYNAMIC_RHO,
    ENCODER_LAYERS,
    REFERRED_TOKENS,
    TOKEN_SELECTION,
)
from dyhead_lab.experiments.detr_rows import AtRho, Selecting, sparse_detr_of
from dyhead_lab.experiments.experiment import Experiment, Job, run_experiment
from dyhead_lab.zoo import names
from dyhead_lab.zoo.detr_tiny import DETR_TINY
from dyhead_lab.zoo.trained import load_trained

SMOKE = {"iterations": 2, "evaluate_every": 2, "batch_size": 2, "warmup": 1}


def measured(experiment, rows, pictures, tmp_path, changes=SMOKE):
    """The record of some rows on a few pictures, seed 0."""
    few = Experiment(experiment.name, "", {row: experiment.rows[row] for row in rows}, rows[0], experiment.metrics)
    return run_experiment(few, tmp_path, [0], pictures, changes, say=lambda line: None)


def test_they_are_registered_with_recipes_of_the_zoo():
    for experiment in DETR_EXPERIMENTS:
        assert EXPERIMENTS[experiment.name] is experiment
        assert {vars(row)["recipe"].name for row in experiment.rows.values()} <= set(names())


def test_a_curve_is_kept_wherever_the_recipe_evaluates(pictures, tmp_path):
    often = {**SMOKE, "iterations": 4, "evaluate_every": 2}
    record = measured(CONVERGENCE, ["DETR", "Deformable DETR"], pictures, tmp_path, often)
    for row in record.rows:
        for metric in ("AP", "AP_small"):
            points = curve(record, row, metric)
            assert [step for step, _ in points] == [2, 4]
            assert points[-1][1].mean == record.runs[row][0][metric]
    assert "not measured" not in record.table()


def test_rows_of_equal_length_and_one_of_ten_times_are_compared():
    steps = {row: CONVERGENCE.rows[row]._changed(Job(0, None)).iterations for row in CONVERGENCE.rows}
    assert steps["DETR"] == steps["Deformable DETR"] == steps["DETR, ten times as long"] / 10


@pytest.mark.parametrize("row", ["random rho 0.3", "objectness rho 0.3", "dam rho 0.3"])
def test_selections_are_trained_and_corr_is_kept(row, pictures, tmp_path):
    record = measured(TOKEN_SELECTION, [row], pictures, tmp_path)
    assert 0 < record.runs[row][0]["Corr"] <= 1
    trained = load_trained(tmp_path / row.replace(" ", "_") / "seed0")
    assert sparse_detr_of(trained).config.selection == row.split()[0]


def test_borrowed_tokens_are_those_that_the_lender_reads_most(pictures, tmp_path):
    measured(BORROWED_TOKENS, ["borrowed rho 0.1"], pictures, tmp_path)
    folder = tmp_path / "borrowed_rho_0.1" / "seed0"
    model = load_trained(folder, ["dyhead_lab.experiments.borrowed_tokens"]).model.train()
    lender = load_trained("deformable_detr_tiny").model
    assert not model.lender.training
    for name, value in lender.state_dict().items():
        assert torch.equal(model.lender.state_dict()[name], value), f"{name}: the lender has learned"
    images = [torch.rand(3, 160, 160), torch.rand(3, 160, 160)]
    kept = model.eval().predictions(images)["kept_tokens"]
    read = torch.stack([lender_map(lender, image) for image in images])
    assert kept.shape[1] == 525 // 10 + 1
    # alone and in a batch, float32 sums differ in their last digits; these would only exchange equals
    torch.testing.assert_close(read.gather(1, kept), read.topk(kept.shape[1], 1).values, rtol=1e-4, atol=1e-5)


def lender_map(model, image):
    """How much the decoder of a detector reads each token of one image, from what it emits."""
    with torch.no_grad():
        batch, padding = pad_images([image])
        maps = model.backbone(batch)
        return _attention_map(model, maps, padding, model.flatten(maps, padding))[0]


def test_deep_encoders_are_trained_with_their_heads_and_without(pictures, tmp_path):
    for row, heads in (("6 layers", True), ("6 layers, no heads", False)):
        measured(ENCODER_LAYERS, [row], pictures, tmp_path)
        config = load_trained(tmp_path / row.replace(" ", "_") / "seed0").model.config
        assert (config.encoder_layers, config.encoder_aux_loss) == (6, heads)


def test_doubles_are_counted_for_each_object(pictures, tmp_path, monkeypatch):
    """Every object is found three times; the faintest detection is not shown, so one in each object is a double."""

    def thrice(model, data):
        assert not model.config.decoder_self_attention
        truth = data.coco.dataset["annotations"]
        found = [{key: object[key] for key in ("image_id", "category_id", "bbox")} for object in truth]
        return [{**one, "score": score} for one in found for score in (0.9, 0.8, 0.1)]

    monkeypatch.setattr(detr_rows, "detect_dataset", thrice)
    record = measured(DECODER, ["no self-attention"], pictures, tmp_path)
    assert record.runs["no self-attention"][0]["doubles"] == 1


def test_rows_that_evaluate_one_model_train_it_once(pictures, tmp_path, monkeypatch):
    trainings = []
    really = detr_rows.finished

    def counted(row, job):
        trainings.append(job.folder)
        return really(row, job)

    monkeypatch.setattr(detr_rows, "finished", counted)
    record = measured(DYNAMIC_RHO, ["rho 0.3", "rho 1.0", "trained with 0.1"], pictures, tmp_path)
    assert len(trainings) == 3 and len(set(trainings)) == 2
    assert len(list((tmp_path / "models").glob("*/seed0/weights.pt"))) == 2
    assert record.runs["rho 1.0"][0]["Corr"] == pytest.approx(1, abs=1e-5)  # float32 sums over all tokens
    assert record.runs["rho 0.3"][0]["Corr"] < 1
    assert all(record.runs[row][0]["encoder ms"] > 0 for row in record.rows)


def test_referred_tokens_are_shares(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(detr_rows, "LARGER", 2)
    record = measured(REFERRED_TOKENS, ["Deformable DETR", "Sparse DETR", "Sparse DETR, 320 px"], pictures, tmp_path)
    for row in record.rows:
        numbers = record.runs[row][0]
        assert 0 < numbers["carry"] < numbers["referred"] <= 1


def test_the_shipped_model_is_evaluated_where_its_settings_hold(tmp_path, monkeypatch):
    _, _, sparse = DETR_TINY
    monkeypatch.setattr(detr_rows, "load_trained", lambda source: source)
    monkeypatch.setattr(detr_rows, "finished", lambda row, job: None)
    monkeypatch.setattr(detr_rows, "WEIGHTS", tmp_path)
    job = Job(seed=sparse.seed, folder=tmp_path / "row" / "seed0")
    row = AtRho(sparse, {}, 0.5)
    assert row.trained(job) == tmp_path / "models" / "sparse_detr_tiny" / "seed0"  # nothing is shipped
    (tmp_path / "sparse_detr_tiny.pt").touch()
    assert row.trained(job) == "sparse_detr_tiny"
    other = Job(seed=sparse.seed + 1, folder=tmp_path / "row" / "seed1")
    assert row.trained(other) == tmp_path / "models" / "sparse_detr_tiny" / "seed1"


def test_only_a_sparse_detr_has_a_share_to_change(pictures, tmp_path):
    row = Selecting(DETR_TINY[1])
    with pytest.raises(TypeError, match="recipe deformable_detr_tiny must train a SparseDETR, got DeformableDETR"):
        row.measure(Job(0, tmp_path / "run", pictures, SMOKE))

"""The bccd experiment evaluates what was kept on the test split, and says where the data come from."""

from dataclasses import replace

import pytest

from dyhead_lab import zoo
from dyhead_lab.data.coco import coco_folder
from dyhead_lab.data.shapes import write_shapes
from dyhead_lab.errors import UserError
from dyhead_lab.evaluation.coco_metric import detect_dataset, evaluate
from dyhead_lab.experiments.bccd_experiment import JudgedOnTest
from dyhead_lab.experiments.experiment import Job
from dyhead_lab.zoo.bccd import bccd


def test_the_kept_weights_are_evaluated_on_the_test_split(tmp_path):
    for seed, split in enumerate(("train", "val", "test")):
        write_shapes(tmp_path / split, images=3, seed=seed, size=64)
    recipe = replace(zoo.get("bccd"), dataset=lambda split: coco_folder(tmp_path, split))
    changes = {"iterations": 2, "batch_size": 1, "model.image_size": 64, "precision": "fp32"}
    numbers = JudgedOnTest(recipe).measure(Job(0, tmp_path / "run", changes=changes))
    model = zoo.load_trained(tmp_path / "run").model
    for split, prefix in (("test", "one_view_"), ("val", "val_")):
        dataset = coco_folder(tmp_path, split)
        again = evaluate(dataset, detect_dataset(model, dataset))
        assert numbers[f"{prefix}AP50"] == pytest.approx(again["AP50"])


def test_missing_data_name_the_way_to_them(tmp_path):
    with pytest.raises(UserError, match=r"git clone .*BCCD_Dataset.*dyhead-lab data voc"):
        bccd("train", tmp_path / "missing")
    write_shapes(tmp_path / "train", images=1, size=64)
    assert len(bccd("train", tmp_path)) == 1


def test_the_splits_of_the_converted_set(shared, tmp_path):
    """What `dyhead-lab data voc` makes of the set: 205, 87 and 72 images, three classes."""
    from dyhead_lab.data.voc import convert_voc

    voc = shared / "data/bccd/BCCD"
    if not voc.is_dir():
        pytest.skip("needs shared/data/bccd")
    convert_voc(voc, tmp_path)
    assert [len(bccd(split, tmp_path)) for split in ("train", "val", "test")] == [205, 87, 72]
    assert bccd("val", tmp_path).categories == ["Platelets", "RBC", "WBC"]

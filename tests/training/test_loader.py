"""Training batches: the same wherever they are decoded and wherever they start; one aspect a batch."""

import itertools
import shutil

import pytest
import torch

from dyhead_lab.cli import main
from dyhead_lab.data.coco import coco_folder
from dyhead_lab.data.draws import InMemory
from dyhead_lab.data.synthetic_coco import write_synthetic_coco
from dyhead_lab.errors import UserError
from dyhead_lab.training import loader
from dyhead_lab.training.loader import aspect_groups, loading_workers, training_batches

from .tiny import quick_recipe

RECIPE = quick_recipe(augmentation="flip_both", batch_size=4)


@pytest.fixture
def pictures(small_pictures):
    return coco_folder(small_pictures, "train")


def first_batches(dataset, count, start=0, recipe=RECIPE):
    return list(itertools.islice(training_batches(recipe, dataset, start), count))


def assert_same_batches(first, second):
    for (images, targets), (others, other_targets) in zip(first, second, strict=True):
        assert [t["image_id"] for t in targets] == [t["image_id"] for t in other_targets]
        assert all(torch.equal(a, b) for a, b in zip(images, others, strict=True))
        assert all(torch.equal(a["boxes"], b["boxes"]) for a, b in zip(targets, other_targets, strict=True))


def test_batches_decoded_elsewhere_are_the_same(pictures, monkeypatch):
    here = first_batches(pictures, 4)
    assert loading_workers(pictures, 1) == 0
    monkeypatch.setattr(loader, "IN_MEMORY", 0)
    elsewhere = training_batches(RECIPE, pictures)
    assert elsewhere.num_workers == loading_workers(pictures, 1) >= 1 and elsewhere.persistent_workers
    assert_same_batches(here, list(itertools.islice(elsewhere, 4)))


def test_workers_are_shared_among_processes(pictures, monkeypatch):
    monkeypatch.setattr(loader, "IN_MEMORY", 0)
    monkeypatch.setattr(loader, "processors", lambda: 12)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert [loading_workers(pictures, world) for world in (1, 2, 4, 12)] == [8, 5, 2, 1]


def test_cores_are_shared_with_the_processes_of_this_machine_only(pictures, monkeypatch):
    """Four machines of 8 GPUs and 32 cores each: 4 cores for a GPU, one of them for the training itself."""
    monkeypatch.setattr(loader, "IN_MEMORY", 0)
    monkeypatch.setattr(loader, "processors", lambda: 32)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert loading_workers(pictures, world=32) == 3
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    assert loading_workers(pictures, world=32) == 1


def test_the_number_of_processes_can_be_set(pictures, monkeypatch):
    monkeypatch.setenv(loader.WORKERS, "1")
    assert loading_workers(pictures, world=1) == 1
    here = first_batches(pictures, 2)
    monkeypatch.setenv(loader.WORKERS, "0")
    assert_same_batches(here, first_batches(pictures, 2))
    for wrong in ("-1", "two", "1.5", ""):
        monkeypatch.setenv(loader.WORKERS, wrong)
        with pytest.raises(UserError, match=f"DYHEAD_WORKERS: expected a number of processes.*got '{wrong}'"):
            loading_workers(pictures, world=1)


def test_what_does_not_fit_into_memory_is_not_kept_where_no_process_reads(pictures, monkeypatch):
    monkeypatch.setenv(loader.WORKERS, "0")
    kept = training_batches(RECIPE, pictures).dataset.dataset.dataset
    assert isinstance(kept, InMemory)
    monkeypatch.setattr(loader, "IN_MEMORY", 0)
    assert training_batches(RECIPE, pictures).dataset.dataset.dataset is pictures


def test_the_command_takes_a_number_of_processes(small_pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(loader.WORKERS, "7")  # and is put back after the test
    asked = []
    monkeypatch.setattr("dyhead_lab.training.engine.training_batches", lambda *args, **more: asked.append(args) or [])
    command = ["train", "quickstart", "--data", str(small_pictures), "--out", str(tmp_path), "--set", "precision=fp32"]
    assert main([*command, "--workers", "-1"]) == 1
    assert "--workers: expected at least 0, got -1" in capsys.readouterr().err
    assert main([*command, "--workers", "0", "--set", "model.image_size=32"]) == 0
    assert asked and loading_workers(None, world=1) == 0


def test_images_that_stand_for_coco_are_read_as_coco_is(pictures, tmp_path):
    write_synthetic_coco(tmp_path, images=1, height=32, width=32)
    assert loading_workers(coco_folder(tmp_path), world=1) >= 1 and loading_workers(pictures, world=1) == 0


@pytest.mark.parametrize("in_memory", [0, 1_000_000_000])
def test_a_broken_image_is_named_in_the_same_words_in_every_process(small_pictures, tmp_path, monkeypatch, in_memory):
    folder = shutil.copytree(small_pictures, tmp_path / "broken")
    dataset = coco_folder(folder, "train")
    broken = dataset.images / dataset.coco.imgs[dataset.image_ids[2]]["file_name"]
    broken.write_bytes(broken.read_bytes()[:100])
    alone = refusal(lambda: dataset[2])
    monkeypatch.setattr(loader, "IN_MEMORY", in_memory)
    assert (loading_workers(dataset, 1) == 0) == (in_memory > 0)
    assert refusal(lambda: first_batches(dataset, 2)) == alone and str(broken) in alone


def refusal(read):
    """The words of a refusal, without the traceback, which would keep processes alive."""
    try:
        read()
    except UserError as error:
        return str(error)
    return "not refused"


def test_batches_grouped_by_aspect_start_anywhere(pictures):
    for image_id, record in pictures.coco.imgs.items():
        record["height"] = record["width"] + (image_id % 3 == 0)
    recipe = quick_recipe(aspect_grouping=True, batch_size=2)
    groups = dict(zip(pictures.image_ids, aspect_groups(pictures), strict=True))
    assert sorted(groups.values()) == [0, 0, 0, 0, 1, 1]
    monotone = first_batches_without_reading(pictures, 8, 0, recipe)
    assert all(len({groups[i] for i in batch}) == 1 for batch in monotone)
    assert first_batches_without_reading(pictures, 3, 5, recipe) == monotone[5:8]


def first_batches_without_reading(dataset, count, start, recipe):
    """The image ids of batches, from the order alone: the changed sizes are not those of the files."""
    order = training_batches(recipe, dataset, start).batch_sampler
    return [[dataset.image_ids[index] for index, _ in batch] for batch in itertools.islice(order, count)]

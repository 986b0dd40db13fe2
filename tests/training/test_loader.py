"""Training batches: the same wherever they are decoded and wherever they start; one aspect a batch."""

import itertools

import pytest
import torch

from dyhead_lab.data.coco import coco_folder
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
    monkeypatch.setattr(loader.os, "sched_getaffinity", lambda process: set(range(12)))
    assert [loading_workers(pictures, world) for world in (1, 2, 4, 12)] == [8, 5, 2, 1]


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

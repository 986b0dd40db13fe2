"""Draws: the order and the transforms are functions of the seed, wherever loading starts or happens."""

import itertools

import pytest
import torch

from dyhead_lab.data.draws import EndlessBatches, InMemory, RandomDraws, as_lists
from dyhead_lab.data.transforms import augmentation
from dyhead_lab.errors import UserError


def take(batches, count):
    return list(itertools.islice(batches, count))


class Pictures(torch.utils.data.Dataset):
    """Ten images of 8-bit noise with one box each."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        pixels = torch.randint(256, (3, 20, 30), generator=torch.Generator().manual_seed(index))
        target = {"boxes": torch.tensor([[2.0, 3.0, 10.0, 7.0]]), "labels": torch.tensor([1]), "image_id": index}
        return pixels / 255, target


def test_every_epoch_shows_every_image_once_in_another_order():
    batches = take(EndlessBatches(length=10, batch_size=5, seed=0), 4)
    first, second = ([i for batch in batches[k : k + 2] for i, _ in batch] for k in (0, 2))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


def test_starting_late_continues_the_same_sequence():
    whole = take(EndlessBatches(length=7, batch_size=4, seed=3), 9)
    assert take(EndlessBatches(length=7, batch_size=4, seed=3, start=5), 4) == whole[5:]


def test_processes_share_the_batches_without_overlap():
    whole = take(EndlessBatches(length=9, batch_size=4, seed=1), 5)
    parts = [take(EndlessBatches(length=9, batch_size=4, seed=1, rank=r, world=2), 5) for r in (0, 1)]
    for batch, left, right in zip(whole, *parts, strict=True):
        assert sorted(batch) == sorted(left + right) and len(left) == len(right) == 2


GROUPS = [0, 0, 0, 1, 0, 0, 1, 0, 1]


def grouped(start=0, **processes):
    return EndlessBatches(length=9, batch_size=2, seed=1, start=start, groups=GROUPS, **processes)


def test_grouped_batches_hold_one_group_and_miss_nobody():
    batches = take(grouped(), 9)  # two epochs
    assert all(len({GROUPS[index] for index, _ in batch}) == 1 for batch in batches)
    seen = [index for batch in batches for index, _ in batch]
    assert all(1 <= seen.count(index) <= 3 for index in range(9))
    draws = [draw for batch in batches for draw in batch]
    assert len(set(draws)) == len(draws)


def test_grouped_batches_start_anywhere_and_are_shared_out():
    whole = take(grouped(), 12)
    assert take(grouped(start=7), 5) == whole[7:]
    parts = [take(grouped(start=7, rank=r, world=2), 5) for r in (0, 1)]
    assert [left + right for left, right in zip(*parts, strict=True)] == whole[7:]


def test_bad_sizes_are_named():
    with pytest.raises(ValueError, match=r"groups: expected one number for each of 3 images, got 2"):
        EndlessBatches(length=3, batch_size=1, seed=0, groups=[0, 1])
    with pytest.raises(ValueError, match="length"):
        EndlessBatches(length=0, batch_size=4, seed=0)
    with pytest.raises(ValueError, match=r"batch_size.*multiple of the 3"):
        EndlessBatches(length=9, batch_size=4, seed=0, world=3)


def test_a_draw_depends_on_its_seed_alone():
    draws = RandomDraws(Pictures(), augmentation("flip_both"))
    torch.manual_seed(0)
    first, target = draws[4, 17]
    torch.manual_seed(123)
    state = torch.get_rng_state()
    again, same = draws[4, 17]
    assert torch.equal(first, again) and torch.equal(target["boxes"], same["boxes"])
    assert torch.equal(torch.get_rng_state(), state)  # the caller's random numbers are left alone
    assert len({draws[4, seed][0].sum(-1).flatten()[0].item() for seed in range(30)}) > 1


def test_a_draw_leaves_the_gpu_alone(monkeypatch):
    """Where there is none PyTorch keeps a note, with a traceback, of every seed for it: 0.2 milliseconds a picture."""

    def seeded(seed):
        raise AssertionError("a GPU was given a seed")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded)
    RandomDraws(Pictures(), augmentation("flip_both"))[4, 17]


def test_flips_take_the_boxes_along():
    draws = RandomDraws(Pictures(), augmentation("flip_both"))
    image, _ = Pictures()[0]
    seen = set()
    for seed in range(30):
        flipped, moved = draws[0, seed]
        across, down = torch.equal(flipped, image.flip(-1)), torch.equal(flipped, image.flip(-2))
        both, none = torch.equal(flipped, image.flip(-1, -2)), torch.equal(flipped, image)
        x = [20.0, 28.0] if across or both else [2.0, 10.0]  # 30 - 10, 30 - 2
        y = [13.0, 17.0] if down or both else [3.0, 7.0]  # 20 - 7, 20 - 3
        assert moved["boxes"].tolist() == [[x[0], y[0], x[1], y[1]]]
        assert type(moved["boxes"]) is torch.Tensor and type(flipped) is torch.Tensor
        seen.add((across, down, both, none))
    assert len(seen) == 4


def test_in_memory_gives_the_same_pixels_and_reads_once():
    class Counting(Pictures):
        reads = 0

        def __getitem__(self, index):
            self.reads += 1
            return super().__getitem__(index)

    source = Counting()
    kept = InMemory(source)
    for _ in range(3):
        image, target = kept[6]
        assert torch.equal(image, Pictures()[6][0]) and target["image_id"] == 6
    assert source.reads == 1 and len(kept) == 10


def test_a_batch_is_two_lists():
    images, targets = as_lists([Pictures()[0], Pictures()[1]])
    assert [t["image_id"] for t in targets] == [0, 1] and len(images) == 2


def test_an_unknown_augmentation_is_refused():
    with pytest.raises(UserError, match="augmentation: expected one of none, flip"):
        augmentation("rotate")

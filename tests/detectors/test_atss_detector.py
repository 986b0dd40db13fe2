"""The whole ATSS detector: it trains, finds, and keeps the shared form, with and without a Dynamic Head."""

import pytest
import torch

from dyhead_lab.detectors.one_stage.atss import atss
from dyhead_lab.trace import trace

SMALL = {"min_size": 96, "max_size": 160}
IMAGES = [torch.rand(3, 80, 100, generator=torch.Generator().manual_seed(i)) for i in range(2)]
EMPTY = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}
TARGETS = [
    {"boxes": torch.tensor([[10.0, 10.0, 60.0, 70.0], [40.0, 20.0, 90.0, 60.0]]), "labels": torch.tensor([0, 2])},
    EMPTY,
]


def small(dyhead_blocks):
    torch.manual_seed(0)
    return atss(3, backbone="resnet18", dyhead_blocks=dyhead_blocks, **SMALL)


@pytest.mark.parametrize("dyhead_blocks", [0, 1])
def test_a_step_with_and_without_objects(dyhead_blocks):
    model = small(dyhead_blocks).train()
    for targets in (TARGETS, [EMPTY, EMPTY]):
        losses = model(IMAGES, targets)
        assert set(losses) == {"classification", "bbox_regression", "bbox_ctrness"}
        total = sum(losses.values())
        assert total.isfinite() and total > 0
        model.zero_grad()
        total.backward()
        assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_it_learns_an_image_by_heart():
    torch.manual_seed(0)
    model = atss(3, "narrow", dyhead_blocks=1, channels=64, **SMALL).train()
    image = torch.full((3, 80, 100), 0.5)
    image[0, 10:70, 10:60] = 1  # a red object of class 0
    image[2, 20:60, 65:95] = 1  # and a blue one of class 2
    target = {
        "boxes": torch.tensor([[10.0, 10.0, 60.0, 70.0], [65.0, 20.0, 95.0, 60.0]]),
        "labels": torch.tensor([0, 2]),
    }
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(40):
        loss = sum(model([image] * 2, [target] * 2).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        [found] = model.eval()([image])
    best = found["boxes"][[int((found["labels"] == k).nonzero()[0]) for k in (0, 2)]]
    # Within a fifth of the smaller object's side: it has found the objects, in a few seconds.
    torch.testing.assert_close(best, target["boxes"], rtol=0, atol=6)


def test_detections_keep_the_shared_form():
    model = small(1).eval()
    model.inference["score_threshold"] = 0.0
    with torch.no_grad():
        results = model([IMAGES[0], torch.rand(3, 200, 90)])
    for result, (height, width) in zip(results, [(80, 100), (200, 90)], strict=True):
        assert set(result) == {"boxes", "scores", "labels"}
        assert 0 < len(result["boxes"]) <= 100
        assert result["boxes"].min() >= 0
        assert result["boxes"][:, 2].max() <= width + 1e-3 and result["boxes"][:, 3].max() <= height + 1e-3
        assert result["labels"].max() < 3
        assert (result["scores"].diff() <= 0).all()


def test_state_dict_round_trip():
    model, other = small(1).eval(), small(1).eval()
    for parameter in other.parameters():
        parameter.data.normal_()
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        for a, b in zip(model(IMAGES), other(IMAGES), strict=True):
            assert torch.equal(a["boxes"], b["boxes"])


def test_the_dynamic_head_can_be_traced():
    model = small(2).eval()
    with torch.no_grad(), trace(model) as t:
        model(IMAGES)
    paths = [path for path, _ in t.find("scale_weights")]
    assert paths == ["backbone.neck.blocks.0.scale"] * 5 + ["backbone.neck.blocks.1.scale"] * 5


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (None, "targets: expected one dict per image"),
        (TARGETS[:1], "2 images, 1 targets"),
        ([TARGETS[0], {**EMPTY, "boxes": torch.zeros(0, 5)}], r"targets\[1\]: boxes must be \(n, 4\)"),
        ([{"boxes": torch.tensor([[0.0, 0, 9, 9]]), "labels": torch.tensor([3])}, EMPTY], r"labels must lie in 0\.\.2"),
    ],
)
def test_targets_that_cannot_be_learned_from_are_refused(targets, message):
    with pytest.raises(ValueError, match=message):
        small(0).train()(IMAGES, targets)


@pytest.mark.parametrize(
    ("options", "parameters"),
    [({"backbone": "resnet50"}, 38_849_090), ({"backbone": "swin_t"}, 42_341_244)],
)
def test_the_released_models_have_the_published_number_of_parameters(options, parameters):
    with torch.device("meta"):
        model = atss(80, **options)
    assert sum(p.numel() for p in model.parameters()) == parameters  # microsoft/DynamicHead, its two ATSS configs

"""Prepared detectors give what the detectors give: fold by fold, and whole, for every detector of the zoo."""

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import FrozenBatchNorm2d

from dyhead_lab.detectors.backbones.named import named_body
from dyhead_lab.detectors.inference import FusedBlock, prepared
from dyhead_lab.detectors.one_stage.atss import atss
from dyhead_lab.trace import trace

from .every import CONVOLUTIONAL, EVERY, detector

#: Float32 sums in another order, through some dozen layers; values are of order 1, boxes of order 100 pixels.
EXACT = {"rtol": 1e-4, "atol": 1e-4}
PICTURE = torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(1))


def shaken(model, seed=0):
    """Norms with statistics and gains of their own: folding them must change the weights."""
    random = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d) or type(module).__name__ == "FrozenBatchNormAct2d":
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                tensor.data.uniform_(0.5, 1.5, generator=random)
    return model.eval()


def norms(model):
    return [m for m in model.modules() if "BatchNorm" in type(m).__name__]


@torch.no_grad()
def raw(model, picture=PICTURE):
    """What the heads say, before anything is chosen by its score: choices of near ties may differ."""
    if hasattr(model, "predictions"):
        found = model.predictions([picture])
        return [found["pred_logits"], found["pred_boxes"]]
    return list(model.backbone(picture[None]).values())


@pytest.mark.parametrize("name", EVERY)
def test_every_detector_of_the_zoo_gives_the_same(name):
    model = detector(name).eval()
    ready = prepared(model)
    assert ready is not model and not norms(ready)
    for ours, theirs in zip(raw(ready), raw(model), strict=True):
        torch.testing.assert_close(ours, theirs, **EXACT)
    with torch.no_grad():
        (ours,), (theirs,) = ready([PICTURE]), model([PICTURE])
    assert ours.keys() == theirs.keys()
    best = theirs["scores"].topk(min(10, len(theirs["scores"]))).values
    torch.testing.assert_close(ours["scores"].topk(len(best)).values, best, **EXACT)
    if name in CONVOLUTIONAL[:1]:  # nothing was done to the one that was given
        assert norms(model) and all(p.requires_grad for p in model.head.parameters())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("narrow", {}),
        ("resnet18", {}),
        ("resnet50", {}),
        ("resnet50", {"norm": "batch", "stride_in_1x1": True}),
        ("resnet50", {"deformable_stages": (5,)}),
        ("timm/tf_efficientnet_lite0", {}),
        ("timm/tf_efficientnet_lite0", {"norm": "batch"}),
        ("timm/resnet26d", {"norm": "batch"}),
    ],
)
def test_norms_of_every_backbone_are_folded(name, options):
    if name.startswith("timm"):
        pytest.importorskip("timm")
    torch.manual_seed(0)
    body = shaken(named_body(name, **options))
    ready = prepared(body)
    assert not norms(ready) and len(norms(body)) > 10
    with torch.no_grad():
        for ours, theirs in zip(ready(PICTURE[None]).values(), body(PICTURE[None]).values(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


def test_only_what_a_norm_alone_reads_is_folded():
    class Twice(nn.Module):
        """The norm of a convolution whose output is used beside it, and one that stands before its convolution."""

        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
            self.late, self.early = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x):
            y = self.conv(x)
            return self.late(self.early(self.norm(y) + y))

    torch.manual_seed(0)
    model = shaken(Twice())
    ready = prepared(model)
    assert len(norms(ready)) == 2
    with torch.no_grad():
        torch.testing.assert_close(ready(PICTURE[None]), model(PICTURE[None]), **EXACT)


def test_a_part_that_cannot_be_followed_is_left_as_it_is():
    class Chooses(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.inner = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), named_body("narrow")

        def forward(self, x):
            return self.inner(self.norm(self.conv(x)) if x.sum() > 0 else x)["c5"]

    torch.manual_seed(0)
    model = shaken(Chooses())
    ready = prepared(model)
    assert norms(ready) == [ready.norm]
    with torch.no_grad():
        torch.testing.assert_close(ready(PICTURE[None]), model(PICTURE[None]), rtol=1e-4, atol=1e-3)


def test_residual_blocks_are_fused_and_weights_lie_channels_last():
    torch.manual_seed(0)
    ready = prepared(named_body("resnet50").eval())
    assert sum(isinstance(module, FusedBlock) for module in ready.modules()) == 16
    kernels = [m.weight for m in ready.modules() if isinstance(m, nn.Conv2d)]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in kernels)


@pytest.mark.parametrize("block", [BasicBlock(8, 8), Bottleneck(8, 2)])
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (5, 4)])
def test_a_fused_block_gives_the_same_on_the_smallest_maps(block, size):
    block = shaken(block)
    maps = torch.randn(2, 8, *size, generator=torch.Generator().manual_seed(2))
    ready = prepared(nn.Sequential(block))
    assert isinstance(ready[0], FusedBlock)
    with torch.no_grad():
        torch.testing.assert_close(ready(maps), block(maps), **EXACT)


def test_a_trace_sees_the_same():
    model = detector("deformable_detr_tiny").eval()
    ready = prepared(model)
    seen = []
    for each in (model, ready):
        with torch.no_grad(), trace(each) as t:
            each([PICTURE])
        seen.append({name: list(t.find(name)) for name in t.names()})
    before, after = seen
    assert before.keys() == after.keys()
    for name, pairs in before.items():
        assert [path for path, _ in pairs] == [path for path, _ in after[name]]
        for (_, ours), (_, theirs) in zip(after[name], pairs, strict=True):
            torch.testing.assert_close(ours, theirs, **EXACT)


def test_bfloat16_stays_near():
    """Eight binary digits through a backbone and a transformer: scores to 0.02, boxes to 2 % of the image; and where
    a detector samples is decided in float32."""
    for name in ("deformable_detr_tiny", "detr_tiny"):
        model = detector(name).eval()
        ready = prepared(model, torch.bfloat16)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            found = ready.predictions([PICTURE])
        logits, boxes = raw(model)
        torch.testing.assert_close(found["pred_logits"].sigmoid(), logits.sigmoid(), rtol=0, atol=0.02)
        torch.testing.assert_close(found["pred_boxes"], boxes, rtol=0, atol=0.02)
        assert next(ready.backbone.parameters()).dtype == torch.bfloat16
    offsets = ready if name == "deformable_detr_tiny" else prepared(detector("deformable_detr_tiny"), torch.bfloat16)
    layer = offsets.transformer.encoder.layers[0].self_attn
    assert layer.sampling_offsets.weight.dtype == torch.float32 and layer.value_proj.weight.dtype == torch.bfloat16
    dense = atss(3, backbone="narrow", dyhead_blocks=1, channels=32).eval()
    with torch.no_grad():
        (found,) = prepared(dense, torch.bfloat16)([PICTURE])  # it enters autocast by itself
    assert found["boxes"].dtype == torch.float32

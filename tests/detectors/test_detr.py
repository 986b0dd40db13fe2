"""DETR: its form as a detector, its traces, and its official checkpoints."""

import pytest
import torch

from dyhead_lab.detectors.backbones.resnet import ResNetBackbone
from dyhead_lab.detectors.detr.detr import DETR, DETRConfig
from dyhead_lab.detectors.official import load_detr
from dyhead_lab.trace import trace


class OneMap(torch.nn.Module):
    """The smallest backbone: one map of 16 channels at stride 16."""

    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 16, 16, stride=16)

    def forward(self, images):
        return [self.stem(images)]


def tiny(**changes):
    settings = {
        "classes": 3,
        "feature_channels": 16,
        "channels": 32,
        "heads": 4,
        "feedforward": 32,
        "dropout": 0.0,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "queries": 5,
    }
    return DETRConfig(**{**settings, **changes})


@pytest.fixture
def model():
    torch.manual_seed(0)
    return DETR(tiny(), OneMap()).eval()


@pytest.mark.parametrize("counts", [(0, 0), (1, 0), (9, 2)], ids=["no objects", "one object", "more than queries"])
def test_trains_a_step_with_any_number_of_objects(model, counts):
    images = [torch.rand(3, 64, 96), torch.rand(3, 48, 80)]
    targets = [{"boxes": torch.tensor([[5.0, 6, 40, 30]]).expand(n, -1), "labels": torch.arange(n) % 3} for n in counts]
    losses = model.train()(images, targets)
    assert set(losses) == {f"loss_{kind}{suffix}" for kind in ("ce", "bbox", "giou") for suffix in ("", "_0")}
    sum(losses.values()).backward()
    assert model.backbone[0].stem.weight.grad.abs().sum() > 0
    assert losses["loss_ce"] > 0 and (losses["loss_bbox"] > 0) == any(counts)


def test_gives_one_detection_per_query_and_never_no_object(model):
    model.class_embed.bias.data[3] = 9.0  # "no object" wins everywhere
    with torch.no_grad():
        small, large = model([torch.rand(3, 48, 80), torch.rand(3, 64, 96)])
    for result in (small, large):
        assert result["boxes"].shape == (5, 4) and set(result["labels"].tolist()) <= {0, 1, 2}
        assert (result["scores"] < 0.01).all() and (result["scores"].diff() <= 0).all()


def test_padding_changes_nothing(model):
    small, large = torch.rand(3, 48, 80), torch.rand(3, 64, 96)
    with torch.no_grad():
        (alone,), (together, _) = model([small]), model([small, large])
    # Sums over keys run over masked zeros too.
    torch.testing.assert_close(alone["scores"], together["scores"], atol=1e-5, rtol=0)
    torch.testing.assert_close(alone["boxes"], together["boxes"], atol=1e-3, rtol=0)


def test_trace_shows_attention_maps_and_changes_nothing(model):
    image = torch.rand(3, 64, 96)
    with torch.no_grad():
        (before,) = model([image])
        with trace(model) as t:
            (traced,) = model([image])
    torch.testing.assert_close(before["boxes"], traced["boxes"], atol=1e-3, rtol=0)
    paths = [path for path, _ in t.find("attention_maps")]
    assert len(paths) == 2 + 2 * 2 and "transformer.decoder.layers.1.multihead_attn" in paths
    (cross,) = t["transformer.decoder.layers.0.multihead_attn", "attention_maps"]
    assert cross.shape == (1, 4, 5, 4 * 6)
    torch.testing.assert_close(cross.sum(-1), torch.ones(1, 4, 5))


def test_attention_starts_nearly_uniform():
    """Why DETR converges slowly (Deformable DETR, section 1): at the start every key weighs about 1 / N."""
    torch.manual_seed(0)
    model = DETR(DETRConfig(encoder_layers=1, decoder_layers=1, feature_channels=16)).eval()
    with trace(model) as t, torch.no_grad():
        model.forward_features([torch.randn(1, 16, 20, 20)], torch.zeros(1, 640, 640, dtype=torch.bool))
    (encoder,) = t["transformer.encoder.layers.0.self_attn", "attention_maps"]
    entropy = -(encoder * encoder.log()).sum(-1).mean()
    assert entropy > 0.8 * torch.tensor(400.0).log()  # of the entropy of a uniform distribution over 400 keys


def test_queries_may_be_blind_to_each_other():
    names = [name for name, _ in DETR(tiny(decoder_self_attention=False)).named_parameters()]
    assert not any("decoder" in name and ("self_attn" in name or "norm1" in name) for name in names)


@pytest.mark.parametrize("dilation", [False, True], ids=["strided", "DC5"])
def test_resnet_50_has_the_published_parameters_and_stride(dilation):
    torch.manual_seed(0)
    backbone = ResNetBackbone(finest=5, dilation=dilation)
    with torch.device("meta"):
        model = DETR(DETRConfig(), ResNetBackbone(finest=5, dilation=dilation))
    # facebookresearch/detr counts 41.3 M trained parameters for DETR-R50.
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 41_302_368
    with torch.no_grad():
        features = backbone(torch.rand(1, 3, 64, 96))
    assert list(features) == ["c5"] and features["c5"].shape == ((1, 2048, 4, 6) if dilation else (1, 2048, 2, 3))


def test_checkpoints_round_trip_and_tell_their_sizes(model):
    features_only = {name: value for name, value in model.state_dict().items() if not name.startswith("backbone")}
    loaded = load_detr(features_only, heads=4, dropout=0.0)
    assert loaded.config == model.config and loaded.backbone is None
    features, mask = model.backbone(torch.rand(1, 3, 64, 96)), torch.zeros(1, 64, 96, dtype=torch.bool)
    ours, theirs = (m.forward_features(features, mask)["pred_boxes"] for m in (model, loaded))
    assert torch.equal(ours, theirs)
    with pytest.raises(ValueError, match=r"these weights tell 3 classes apart, not 8.*fine_tune=True"):
        load_detr(features_only, heads=4, classes=8)
    assert load_detr(features_only, heads=4, classes=8, fine_tune=True).class_embed.out_features == 9


def test_refuses_what_does_not_fit(model):
    with pytest.raises(ValueError, match="channels must be a multiple of 4 and of heads"):
        tiny(channels=30)
    with pytest.raises(ValueError, match=r"features must be one map with 16 channels, got maps with \[16, 8\]"):
        model.forward_features([torch.zeros(1, 16, 2, 2), torch.zeros(1, 8, 1, 1)], torch.zeros(1, 32, 32).bool())
    with pytest.raises(ValueError, match=r"not the weights of a DETR: missing query_embed.weight"):
        load_detr({"conv1.weight": torch.zeros(1)})
    for target, message in (
        ({"boxes": torch.zeros(1, 4), "labels": torch.tensor([3])}, r"labels must lie in 0..2, got labels\[0\] = 3"),
        ({"boxes": torch.zeros(2, 4), "labels": torch.tensor([0])}, r"boxes must be \(n, 4\) and labels \(n,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            model.train()([torch.rand(3, 32, 32)], [target])
    with pytest.raises(ValueError, match=r"images\[0\]: expected a float tensor \(3, H, W\)"):
        model.eval()([torch.zeros(3, 32, 32, dtype=torch.uint8)])

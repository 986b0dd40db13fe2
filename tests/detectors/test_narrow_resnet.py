"""The narrow backbone: its levels, and how it starts from the shipped weights."""

import pytest
import torch

from dyhead_lab.detectors.backbones import narrow_resnet
from dyhead_lab.detectors.backbones.narrow_resnet import NarrowResNet
from dyhead_lab.errors import UserError


def test_levels_have_their_strides():
    levels = NarrowResNet()(torch.zeros(1, 3, 64, 96))
    assert {name: tuple(x.shape[1:]) for name, x in levels.items()} == {
        "c2": (32, 16, 24),
        "c3": (64, 8, 12),
        "c4": (96, 4, 6),
        "c5": (128, 2, 3),
    }


def test_the_finest_level_can_be_left_out():
    body = NarrowResNet(finest=3)
    assert body.channels == (64, 96, 128)
    assert list(body(torch.zeros(1, 3, 64, 64))) == ["c3", "c4", "c5"]
    with pytest.raises(ValueError, match="finest: expected 2, 3, 4 or 5, got 1"):
        NarrowResNet(finest=1)


def test_pretrained_fills_every_weight():
    """The file holds half precision: of 24 bits of a float32 number it keeps 11."""
    torch.manual_seed(0)
    body, other = NarrowResNet(pretrained=True), NarrowResNet(pretrained=True)
    for name, weight in body.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name])
        assert torch.equal(weight, weight.half().to(weight.dtype)), name


def test_dilation_doubles_the_last_map_and_keeps_what_it_knew():
    image = torch.rand(1, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        strided = NarrowResNet(pretrained=True).eval()(image)["c5"]
        dilated = NarrowResNet(pretrained=True, dilation=True).eval()(image)["c5"]
    assert dilated.shape[-2:] == (6, 4)
    torch.testing.assert_close(dilated[..., ::2, ::2], strided, rtol=1e-4, atol=1e-5)  # another order of float32 sums


def test_pretrained_refuses_another_architecture():
    with pytest.raises(ValueError, match=r"pretrained: .*another architecture"):
        NarrowResNet(widths=(16, 32, 48, 64), pretrained=True)


def test_pretrained_names_the_file_that_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(narrow_resnet, "PRETRAINED", tmp_path / "none.pt")
    with pytest.raises(UserError, match=r"none\.pt: no such file \(expected the shipped weights of a narrow"):
        NarrowResNet(pretrained=True)

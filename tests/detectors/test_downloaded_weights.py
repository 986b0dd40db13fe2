"""ImageNet weights that were downloaded badly: the file is named, not a traceback of its reader."""

import pytest
import torch
import torchvision

from dyhead_lab.detectors.backbones.classifiers import torchvision_model
from dyhead_lab.errors import UserError

WEIGHTS = torchvision.models.ResNet18_Weights.IMAGENET1K_V1


@pytest.mark.parametrize("content", [b"<html>Sign in</html>", b"", b"PK\x03\x04cut", b"\x80\x02"])
def test_a_damaged_download_is_named(tmp_path, monkeypatch, content):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / WEIGHTS.url.rpartition("/")[2]).write_bytes(content)
    with pytest.raises(UserError, match=r"weights IMAGENET1K_V1 of resnet18 .* is damaged: remove it from") as refused:
        torchvision_model("resnet18", "IMAGENET1K_V1")
    assert str(tmp_path) in str(refused.value)

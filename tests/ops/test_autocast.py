"""Which machines multiply bfloat16 by themselves."""

import pytest
import torch

from dyhead_lab.ops.autocast import has_bfloat16


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((7, 0), False), ((7, 5), False), ((8, 0), True), ((8, 9), True), ((9, 0), True)],  # V100, T4, A100, L4, H100
)
def test_gpus_have_bfloat16_from_compute_capability_8(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert has_bfloat16(torch.device("cuda")) is expected


def test_a_processor_is_asked_itself(monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert not has_bfloat16(torch.device("cpu"))

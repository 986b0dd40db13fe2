"""Exported programs hold plain PyTorch operators, and give what the modules give: the lines of guide/export.md."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_leaves

from dyhead_lab.attention.deformable import MultiScaleDeformableAttention
from dyhead_lab.ops import deform_conv2d

PAGE = Path(__file__).resolve().parent.parent / "guide" / "export.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
ONNX = ("onnx", "onnxscript", "onnxruntime")
#: float32, sums in another order through some twenty layers, of values up to 7: 4e-6 were seen.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """The names that the first block of the page defines."""
    names: dict[str, Any] = {}
    exec(BLOCKS[0], names)
    with torch.no_grad():
        names["expected"] = tree_leaves(names["maps"](names["images"]))
    return names


def own_operators(program: Any) -> set[str]:
    return {str(node.target) for node in program.graph.nodes if "dyhead_lab" in str(node.target)}


def test_a_detector_becomes_a_program_of_plain_operators(page):
    assert own_operators(page["program"]) == set()
    for got, want in zip(tree_leaves(page["program"].module()(page["images"])), page["expected"], strict=True):
        torch.testing.assert_close(got, want, atol=TOLERANCE, rtol=0)


def test_onnxruntime_runs_it(page, tmp_path, monkeypatch):
    missing = [name for name in ONNX if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    import onnxruntime

    monkeypatch.chdir(tmp_path)
    exec(BLOCKS[1], page)
    session = onnxruntime.InferenceSession("quickstart.onnx", providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: page["images"].numpy()})
    for got, want in zip(found, page["expected"], strict=True):
        torch.testing.assert_close(torch.from_numpy(got), want, atol=TOLERANCE, rtol=0)


def test_multi_scale_deformable_attention_is_exported_as_its_formula():
    class Attention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = MultiScaleDeformableAttention(channels=16, levels=2, heads=4, points=2)

        def forward(self, query_BQC, reference_BQL, value_BNC):
            shapes, starts = torch.tensor([[4, 4], [2, 2]]), torch.tensor([0, 16])
            return self.attention(query_BQC, reference_BQL, value_BNC, shapes, starts)[0]

    torch.manual_seed(0)
    module, inputs = Attention().eval(), (torch.randn(1, 5, 16), torch.rand(1, 5, 2, 2), torch.randn(1, 20, 16))
    program = torch.export.export(module, inputs)
    assert own_operators(program) == set()
    torch.testing.assert_close(program.module()(*inputs), module(*inputs), atol=1e-5, rtol=0)


def test_an_operator_whose_backend_is_named_stays_an_operator():
    class Convolution(torch.nn.Module):
        def forward(self, x, offset, weight):
            return deform_conv2d(x, offset, weight, backend="formula")

    inputs = torch.randn(1, 2, 5, 5), torch.zeros(1, 2, 5, 5), torch.ones(1, 2, 1, 1)
    assert own_operators(torch.export.export(Convolution(), inputs)) == {"dyhead_lab.deform_conv2d.default"}

"""``import dyhead_lab`` is quick, and what stands at its door is there, documented and what it says."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import dyhead_lab
from dyhead_lab.data.shapes import draw_image
from dyhead_lab.trace import emit


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, dyhead_lab; dir(dyhead_lab); print(sorted({'torch', 'numpy', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("name", dyhead_lab.__all__)
def test_every_name_is_there_and_stands_in_the_docstring(name):
    assert getattr(dyhead_lab, name).__doc__
    assert name in dir(dyhead_lab) and f"``{name}``" in (dyhead_lab.__doc__ or "")


def test_a_name_gives_what_its_module_gives():
    from dyhead_lab.data.images import read_image
    from dyhead_lab.zoo import load_trained

    assert dyhead_lab.read_image is read_image and dyhead_lab.load_trained is load_trained
    assert "quickstart" in dyhead_lab.zoo.names()
    namespace: dict[str, object] = {}
    exec("from dyhead_lab import *", namespace)
    assert set(dyhead_lab.__all__) <= set(namespace)


def test_another_name_is_refused():
    with pytest.raises(AttributeError, match="module 'dyhead_lab' has no attribute 'nothing'"):
        _ = dyhead_lab.nothing


def test_trace_is_a_module_and_a_function():
    class Emits(torch.nn.Module):
        def forward(self, x):
            emit(self, offsets=x)
            return x

    model = Emits()
    with dyhead_lab.trace(model, keep=lambda path, name: name == "offsets") as seen:
        model(torch.ones(2))
    assert seen.names() == ["offsets"] and dyhead_lab.trace.__name__ == "dyhead_lab.trace"


def examples():
    """The example of README.md, and that of the docstring: its last lines have a page and a training."""
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    whole = re.search(r"## Use the library\n\n```python\n(.*?)```", readme, re.DOTALL)
    assert whole
    lines = [line for line in (dyhead_lab.__doc__ or "").splitlines() if line.startswith("    ")]
    short = [line for line in textwrap.dedent("\n".join(lines)).splitlines() if not re.search(r"look\(|train\(", line)]
    return {"README.md": whole[1], "docstring": "\n".join(short)}


@pytest.mark.parametrize("place", ["README.md", "docstring"])
def test_the_example_runs(place, tmp_path, monkeypatch, capsys):
    for name in ("photo.jpg", "my_photo.jpg"):
        Image.fromarray(draw_image(0, 0)[0]).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    text = examples()[place]
    assert text.count("dyhead_lab.") >= 4 and len(text.splitlines()) <= 10
    found: dict[str, Any] = {}
    exec(text, found)
    assert found["found"]["boxes"].shape[1] == 4 and len(found["seen"].names()) > 0
    assert place == "docstring" or "[" in capsys.readouterr().out

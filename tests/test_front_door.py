"""``import dyhead_lab`` is quick, and what stands at its door is there, documented and what it says."""

import subprocess
import sys

import pytest
import torch

import dyhead_lab
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


def test_the_example_of_the_docstring_runs(tmp_path):
    from PIL import Image

    Image.new("RGB", (64, 48), "gray").save(tmp_path / "photo.jpg")
    trained = dyhead_lab.load_trained("quickstart")
    image = dyhead_lab.read_image(tmp_path / "photo.jpg")
    with dyhead_lab.trace(trained.model) as seen:
        [found] = trained.model([image])
    assert found["boxes"].shape[1] == 4
    assert dyhead_lab.SamplingPoints(seen, image)

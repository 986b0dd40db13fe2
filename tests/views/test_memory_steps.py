import pytest
import traitlets

from dyhead_lab.ops.native import Access
from dyhead_lab.views.memory_steps import MemorySteps


def access(thread, operation, buffer, index, count=1):
    return Access(thread, operation, buffer, index, count, value=0.5, launch=0)


def test_steps_stay_in_range_and_a_picture_stands_beside_the_widget():
    steps = MemorySteps([access(0, "read", "input", 2), access(0, "write", "output", 0)], {"input": (2, 3)})
    steps.step = 1
    with pytest.raises(traitlets.TraitError, match="step: got 2"):
        steps.step = 2
    data, metadata = steps._repr_mimebundle_()
    assert "image/png" in data and "application/vnd.jupyter.widget-view+json" in data
    assert "2 accesses of 1 thread" in metadata["image/png"]["alt"]
    with pytest.raises(ValueError, match="accesses: got none"):
        MemorySteps([], {})

"""The table of registers is made of what ptxas says."""

import importlib
import sys
from pathlib import Path

CSRC = Path(__file__).parents[2] / "csrc"
sys.path.insert(0, str(CSRC))
registers = importlib.import_module("registers")
sys.path.remove(str(CSRC))

TOLD = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN6dyhead7nothingEv' for 'sm_90'
ptxas info    : Function properties for _ZN6dyhead7nothingEv
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 4 registers, used 0 barriers
ptxas info    : Compiling entry function '_ZN6dyhead4helpEv' for 'sm_90'
ptxas info    : Function properties for _ZN6dyhead4helpEv
    16 bytes stack frame, 12 bytes spill stores, 20 bytes spill loads
ptxas info    : Used 128 registers, used 1 barriers, 16 bytes cumulative stack size
"""


def test_registers_and_spills_are_read_by_kernel(monkeypatch):
    monkeypatch.setattr(registers, "demangled", lambda names: names)
    assert registers.read(TOLD) == {"_ZN6dyhead7nothingEv": "4", "_ZN6dyhead4helpEv": "128, 12 spilled"}


def test_names_keep_their_types_and_lose_their_arguments():
    name = "void dyhead::deform_conv::implicit_product<__half, dyhead::Tf32, (int)64>(dyhead::deform_conv::Geometry)"
    assert registers.shortened(name) == "implicit_product<float16, Tf32, 64>"
    assert registers.shortened("dyhead::nothing()") == "nothing"


def test_a_table_is_read_as_it_is_written():
    table = {"a/f<T>": {"75": "4", "120": "128, 12 spilled"}, "a/g": {"120": "8", "75": ""}}
    assert registers.parsed(registers.written(table)) == table
    assert registers.parsed(
        (CSRC / "REGISTERS.md").read_text(encoding="utf-8").split(registers.BEGIN)[1].split(registers.END)[0]
    )

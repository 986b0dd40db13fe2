"""Notices leave the output of a command alone, and alarm nobody in a notebook."""

import sys
from types import ModuleType

from dyhead_lab.notices import notice


def test_notices_go_to_stderr_but_in_a_notebook_to_stdout(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    notice("drawing")
    assert capsys.readouterr() == ("", "drawing\n")
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    notice("drawing")
    assert capsys.readouterr() == ("drawing\n", "")

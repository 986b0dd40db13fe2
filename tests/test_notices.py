"""Notices leave the output of a command alone, and alarm nobody in a notebook."""

import sys
from types import SimpleNamespace

from dyhead_lab.notices import notice


def test_notices_go_to_stderr_but_in_a_notebook_to_stdout(capsys, monkeypatch):
    for shell, told in (
        (None, ("", "drawing\n")),
        (SimpleNamespace(), ("", "drawing\n")),  # IPython in a terminal
        (SimpleNamespace(kernel=object()), ("drawing\n", "")),
    ):
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda shell=shell: shell))
        notice("drawing")
        assert capsys.readouterr() == told
    monkeypatch.delitem(sys.modules, "IPython")
    notice("drawing")
    assert capsys.readouterr() == ("", "drawing\n")

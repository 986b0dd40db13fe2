"""Plain notices: what the library is doing while somebody waits."""

import sys


def notice(text: str) -> None:
    """Say what takes a while. On stderr, so that the output of a command stays what it is; in a notebook, which shows
    stderr in alarm red, on stdout.
    """
    ipython = sys.modules.get("IPython")  # where nobody has imported it, this is no notebook
    in_notebook = ipython is not None and hasattr(ipython.get_ipython(), "kernel")
    print(text, file=sys.stdout if in_notebook else sys.stderr)

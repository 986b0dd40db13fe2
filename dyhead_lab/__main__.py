"""``python -m dyhead_lab COMMAND``: the command line where the script ``dyhead-lab`` is not on the path."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())

"""The emulated kernels of these tests run in the debug build, which checks the bounds of every access."""

import os

os.environ.setdefault("DYHEAD_EMULATOR", "debug")

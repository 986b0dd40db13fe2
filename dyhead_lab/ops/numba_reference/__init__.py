"""The reference: both operators as literal loops, in ``loops.py``. The fast path that runs is ``ops/cpu``."""

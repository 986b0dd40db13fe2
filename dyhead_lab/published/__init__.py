"""Weights that others have published: what there is (``catalogue.py``), and the way to this machine (``store.py``)."""

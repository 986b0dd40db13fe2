"""The book "Attention in object detection": what the chapters are built from, a package that leans on ``dyhead_lab``.

``cNN_name/``   a folder a chapter: ``chapter.py`` is its text and code (py:percent), beside it lie the checks of its
                exercises and the figures that it alone draws
``figures/``    figures that more than one chapter draws
``practice/``   what exercises are made of: checks of a reader's function, drills with planted bugs, predictions
``site/``       the chapters as pages that open from disk, written by ``dyhead-lab book`` (``command.py``)
``build.py``    ``chapter.py`` -> the executed notebook

A chapter imports ``figures``, ``practice`` and the library, never another chapter; figures import ``practice`` and the
library; the library imports nothing of the book. ``tests/test_rooms.py`` holds that.
"""

"""Fixtures of the training room."""

import pytest

from .tiny import write_pictures


@pytest.fixture(scope="session")
def small_pictures(tmp_path_factory):
    """Shapes of 32 pixels: six images to train on, three to evaluate on."""
    folder = tmp_path_factory.mktemp("small_shapes")
    write_pictures(folder)
    return folder

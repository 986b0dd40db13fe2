import pytest

from dyhead_lab.data.shapes import write_shapes


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder with four small pictures to learn from and four to evaluate on."""
    folder = tmp_path_factory.mktemp("shapes")
    for split, seed in (("train", 1), ("val", 2)):
        write_shapes(folder / split, images=4, seed=seed, size=64)
    return str(folder)

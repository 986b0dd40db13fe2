"""Every number of a COCO file is read or refused by name, whatever stands in its place."""

import json
import warnings

import pytest

from dyhead_lab.data.coco import CocoDetection
from dyhead_lab.errors import UserError

from .coco_files import annotation, coco_dict

#: As JSON writes them. Python reads whole numbers of any length, and 1e999 as infinite.
WRITTEN = [
    *(str(10**400), str(-(10**400)), str(2**63), "1e999", "-1e999", "NaN", "1e308", "1e39", "-1e308", "0", "-1", "1.5"),
    *('"7"', '"x"', f'"{"9" * 5000}"', "true", "false", "null", "[]", "{}", "2147483648", "1e15"),
]
FIELDS = [
    *(("images", "id"), ("images", "width"), ("images", "height"), ("categories", "id"), ("annotations", "id")),
    *(("annotations", "image_id"), ("annotations", "category_id"), ("annotations", "area"), ("annotations", "iscrowd")),
    *(("annotations", "bbox", place) for place in range(4)),
    ("annotations", "segmentation", 0, 4),
]


@pytest.mark.parametrize("written", WRITTEN, ids=lambda text: text[:12])
@pytest.mark.parametrize("field", FIELDS, ids=lambda field: ".".join(map(str, field)))
def test_it_is_read_or_refused(tmp_path, field, written):
    shape = [[10, 10, 20, 10, 20, 20]]
    content = coco_dict([annotation(id, [10, 10, 12, 12.5], segmentation=shape) for id in range(1, 7)])
    content = json.loads(json.dumps(content))  # no two annotations share a list
    place = content[field[0]][0]
    for key in field[1:-1]:
        place = place[key]
    place[field[-1]] = "HERE"
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content).replace('"HERE"', written), encoding="utf-8")
    told = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            dataset = CocoDetection(tmp_path, path, masks=field[1] == "segmentation")
            target = dataset.target(0)
        told += [str(warning.message) for warning in caught]
        assert target["boxes"].isfinite().all() and target["area"].isfinite().all()
        assert (target["boxes"][:, 2:] > target["boxes"][:, :2]).all()
        assert len(target["labels"]) >= 5 or (field[1], written) == ("iscrowd", "1") or field[0] == "images"
        told += [str(problem) for problem in dataset.problems]
    except UserError as error:
        assert str(path) in str(error) and any(word in str(error) for word in (*field[:2], "box"))
        told.append(str(error))
    assert all(len(text) < 700 for text in told), "nobody reads pages of digits"


def test_words_of_the_longest_numbers_do_not_fail(tmp_path):
    """Python refuses to read whole numbers of more than 4300 digits."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps(coco_dict([])).replace(": 40", ": " + "9" * 5000), encoding="utf-8")
    with pytest.raises(UserError, match=f"cannot read annotation file {path}"):
        CocoDetection(tmp_path, path)

"""Every kind of mistake, staged one at a time, and what mending it gives."""

import pytest

from dyhead_lab.data.coco_json import index_coco
from dyhead_lab.evaluation.coco_metric import UNDEFINED, evaluate
from dyhead_lab.evaluation.error_analysis import KINDS, analyse_errors, find_mistakes

from ..data.coco_files import annotation, coco_dict

DOG, CAT = 3, 7
BOX, FAR = [0, 0, 10, 10], [25, 15, 10, 10]


def found(bbox, score=0.9, category_id=DOG, image_id=1):
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, "score": score}


def kinds(annotations, records):
    return [mistake.kind for mistake in find_mistakes(index_coco(coco_dict(annotations)), records)[0]]


def test_a_hit_is_no_mistake():
    assert kinds([annotation(1, BOX)], [found(BOX)]) == []


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (found([4, 0, 10, 10]), ["localisation"]),  # overlap 60 of 140: IoU 0.43
        (found([2, 0, 10, 10], category_id=CAT), ["classification"]),  # 80 of 120: IoU 0.67
        (found([4, 0, 10, 10], category_id=CAT), ["both", "missed"]),
        (found(FAR), ["background", "missed"]),
        (found([9, 0, 10, 10]), ["background", "missed"]),  # 10 of 190: IoU 0.05
    ],
)
def test_a_false_positive_has_one_kind_and_some_account_for_the_object(record, expected):
    assert kinds([annotation(1, BOX)], [record]) == expected


def test_the_less_sure_of_two_hits_is_a_duplicate():
    mistakes, hit = find_mistakes(
        index_coco(coco_dict([annotation(1, BOX)])), [found([1, 0, 10, 10], 0.5), found(BOX, 0.9)]
    )
    assert [(m.kind, m.detection["score"]) for m in mistakes] == [("duplicate", 0.5)] and hit == {1}


def test_nothing_counts_inside_a_crowd():
    crowd = annotation(2, [20, 10, 20, 20], iscrowd=1)
    assert kinds([annotation(1, BOX), crowd], [found(BOX), found([22, 12, 5, 5])]) == []
    assert kinds([annotation(1, BOX), crowd], [found(BOX), found([22, 12, 5, 5], category_id=CAT)]) == ["background"]


def test_an_image_without_objects_and_one_without_detections():
    truth = index_coco(coco_dict([annotation(1, BOX, image_id=1)], 2))
    mistakes, _ = find_mistakes(truth, [found(BOX, image_id=2)])
    assert [(m.kind, m.image_id) for m in mistakes] == [("missed", 1), ("background", 2)]


def scene():
    """Two objects in each of five images. Every image has one hit and, but for the last, one mistake of a kind."""
    annotations = []
    for image in range(1, 6):
        annotations += [annotation(2 * image - 1, BOX, image_id=image), annotation(2 * image, FAR, image_id=image)]
    records = [found(BOX, 0.8, image_id=image) for image in range(1, 6)]
    records += [
        found([29, 15, 10, 10], 0.9, image_id=1),  # localisation
        found([26, 15, 10, 10], 0.9, category_id=CAT, image_id=2),  # classification
        found([1, 0, 10, 10], 0.7, image_id=3),  # duplicate; the far object is missed
        found([12, 15, 5, 5], 0.9, image_id=4),  # background; the far object is missed
        found(FAR, 0.8, image_id=5),
    ]
    return index_coco(coco_dict(annotations, 5)), records


def test_mending_one_kind_gives_its_gain():
    truth, records = scene()
    report = analyse_errors(truth, records, "pycocotools")
    assert report.ap50 == evaluate(truth, records)["AP50"]
    assert {kind: sum(m.kind == kind for m in report.mistakes) for kind in KINDS} == {
        "localisation": 1,
        "classification": 1,
        "duplicate": 1,
        "background": 1,
        "both": 0,
        "missed": 2,
    }
    assert report.gains["both"] == 0
    assert all(report.gains[kind] > 0 for kind in ("localisation", "classification", "background", "missed"))
    by_hand = [{**record, "bbox": FAR} if record["bbox"] == [29, 15, 10, 10] else record for record in records]
    assert report.gains["localisation"] == evaluate(truth, by_hand)["AP50"] - report.ap50
    without = [record for record in records if record["bbox"] != [12, 15, 5, 5]]
    assert report.gains["background"] == evaluate(truth, without)["AP50"] - report.ap50


def test_mending_everything_leaves_nothing_to_gain():
    """Kind after kind, mended by hand in turn, ends at AP50 1."""
    truth, records = scene()
    mended = [record for record in records if record["score"] == 0.8]
    mended += [found(FAR, 0.9, image_id=image) for image in (1, 2, 3, 4)]
    assert evaluate(truth, mended)["AP50"] == pytest.approx(1)
    assert analyse_errors(truth, mended).mistakes == []


def test_an_object_is_given_away_only_once():
    """Two localisation errors at one object: mending them gives one hit, not a hit and a duplicate."""
    truth = index_coco(coco_dict([annotation(1, BOX)]))
    report = analyse_errors(truth, [found([4, 0, 10, 10], 0.9), found([0, 4, 10, 10], 0.8)])
    assert report.gains["localisation"] == pytest.approx(1)


def row(report, name):
    """The words of the table's first line that begins with ``name``."""
    return next(line.split() for line in report.table().splitlines() if line.startswith(name))


def test_where_all_objects_are_missed_mending_them_leaves_nothing_to_find():
    report = analyse_errors(index_coco(coco_dict([annotation(1, BOX)])), [])
    assert report.ap50 == 0 and report.gains["missed"] == UNDEFINED and report.gains["background"] == 0
    assert row(report, "missed")[1:3] == ["-", "1"] and row(report, "background")[1] == "+0.0000"


def test_without_objects_nothing_is_defined():
    report = analyse_errors(index_coco(coco_dict([])), [found(BOX)])
    assert report.ap50 == UNDEFINED and set(report.gains.values()) == {UNDEFINED}
    assert row(report, "AP50")[1] == "-;" and row(report, "background")[1:3] == ["-", "1"]
    assert "-1.0000" not in report.table()


def test_tables_and_worst_images():
    truth, records = scene()
    report = analyse_errors(truth, [*records, found(BOX, 0.1, category_id=CAT)])
    text = report.table()
    assert "cat" in text and "dog taken for cat: 1" in text  # the one with score 0.1 is not counted
    assert report.confusions(least_score=0.05) == [("dog", "cat", 2)]
    assert report.worst_images(2) == [4, 3]  # a missed object and the surest false positive; missed and duplicate


def test_a_box_that_is_not_finite_is_a_false_positive_of_the_background():
    truth = index_coco(coco_dict([annotation(1, BOX)]))
    with pytest.warns(UserWarning, match="1 of 2 detections are not finite") as told:
        report = analyse_errors(truth, [found([float("nan")] * 4, 0.95), found(BOX)])
    assert report.not_finite == 1 and report.table().splitlines()[-1].startswith("1 detections were not finite")
    assert len(told) == 1 and [m.kind for m in report.mistakes] == ["background"]
    # The false positive is the surer one: precision 1/2 at every recall, 1 without it.
    assert report.ap50 == pytest.approx(0.5) and report.gains["background"] == pytest.approx(0.5)

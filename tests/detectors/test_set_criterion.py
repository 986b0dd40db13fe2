"""The set criterion: what each term counts."""

import math

import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou

from dyhead_lab.detectors.box_ops import cxcywh_to_xyxy, generalized_iou, xyxy_to_cxcywh
from dyhead_lab.detectors.detr.hungarian_matcher import HungarianMatcher
from dyhead_lab.detectors.detr.set_criterion import SetCriterion

WEIGHTS = {"loss_ce": 2.0, "loss_bbox": 5.0, "loss_giou": 2.0}
NO_OBJECT = {"labels": torch.zeros(0, dtype=torch.long), "boxes": torch.zeros(0, 4)}


def outputs(queries=4, classes=3, batch=1, seed=0):
    torch.manual_seed(seed)
    return {
        "pred_logits": torch.randn(batch, queries, classes),
        "pred_boxes": torch.rand(batch, queries, 4) * 0.4 + 0.2,
    }


def one_object(label=1):
    return {"labels": torch.tensor([label]), "boxes": torch.tensor([[0.4, 0.5, 0.2, 0.3]])}


def test_box_terms_are_those_of_the_matched_pair():
    made, wanted = outputs(), one_object()
    terms = SetCriterion(3, HungarianMatcher(), WEIGHTS)(made, [wanted])
    l1 = (made["pred_boxes"][0] - wanted["boxes"]).abs().sum(-1)
    giou = 1 - generalized_box_iou(cxcywh_to_xyxy(made["pred_boxes"][0]), cxcywh_to_xyxy(wanted["boxes"])).squeeze(-1)
    pair = min(range(4), key=lambda q: abs(float(l1[q]) - float(terms["loss_bbox"])))
    torch.testing.assert_close(terms["loss_bbox"], l1[pair])
    torch.testing.assert_close(terms["loss_giou"], giou[pair])


def test_focal_term_sums_over_queries_and_classes_and_divides_by_objects():
    made = outputs(batch=2)
    terms = SetCriterion(3, HungarianMatcher(), WEIGHTS)(made, [NO_OBJECT, NO_OBJECT])
    p = made["pred_logits"].sigmoid()
    by_hand = (0.75 * p**2 * -(1 - p).log()).sum()  # all negative; zero objects count as one
    torch.testing.assert_close(terms["loss_ce"], by_hand)
    assert terms["loss_bbox"] == 0 and terms["loss_giou"] == 0


def test_softmax_term_counts_no_object_a_tenth():
    made = outputs(queries=3, classes=3)
    matcher = HungarianMatcher(class_cost=1.0, focal=False)
    terms = SetCriterion(2, matcher, WEIGHTS)(made, [NO_OBJECT])
    torch.testing.assert_close(terms["loss_ce"], F.cross_entropy(made["pred_logits"][0], torch.full((3,), 2)))
    with_object = SetCriterion(2, matcher, WEIGHTS)(made, [one_object(0)])
    log_p = made["pred_logits"][0].log_softmax(-1)
    choices = [
        -(log_p[q, 0] + 0.1 * (log_p[:, 2].sum() - log_p[q, 2])) / (1 + 0.1 * 2) for q in range(3)
    ]  # whichever query was matched
    assert min(abs(float(with_object["loss_ce"] - choice)) for choice in choices) < 1e-6


def test_the_proposing_head_of_two_stages_only_tells_objects_from_background():
    made = outputs()
    made["enc_outputs"] = outputs(queries=6, seed=1)
    agnostic = SetCriterion(3, HungarianMatcher(), WEIGHTS, class_agnostic_encoder=True)
    specific = SetCriterion(3, HungarianMatcher(), WEIGHTS)
    zero = specific(made, [one_object(0)])
    torch.testing.assert_close(agnostic(made, [one_object(2)])["loss_ce_enc"], zero["loss_ce_enc"])
    assert specific(made, [one_object(2)])["loss_ce_enc"] != zero["loss_ce_enc"]


def test_filling_counts_in_no_term():
    made = outputs(queries=5)
    padding = torch.tensor([[False, True, False, False, True]])
    cut = {name: value[:, ~padding[0]] for name, value in made.items()}
    criterion = SetCriterion(3, HungarianMatcher(), WEIGHTS)
    padded = criterion({**made, "padding": padding}, [one_object()])
    without = criterion(cut, [one_object()])
    for name in without:
        torch.testing.assert_close(padded[name], without[name])


def test_weights_hold_for_every_suffix_and_reports_are_left_out():
    made = outputs() | {"aux_outputs": [outputs(seed=2)], "aux_outputs_enc": [outputs(seed=3)]}
    criterion = SetCriterion(3, HungarianMatcher(), WEIGHTS)
    terms = criterion(made, [one_object()])
    weighted = criterion.weigh(terms)
    suffixes = ("", "_0", "_enc_0")
    assert set(weighted) == {f"loss_{kind}{suffix}" for kind in ("ce", "bbox", "giou") for suffix in suffixes}
    assert weighted["loss_bbox_enc_0"] == 5 * terms["loss_bbox_enc_0"]
    assert {"class_error", "cardinality_error", "cardinality_error_0"} <= set(terms)


def test_class_error_is_the_share_of_wrong_labels_among_the_matched():
    made = outputs(queries=1)
    made["pred_logits"] = torch.tensor([[[0.0, 3.0, 1.0]]])
    criterion = SetCriterion(3, HungarianMatcher(), WEIGHTS)
    assert criterion(made, [one_object(1)])["class_error"] == 0
    assert criterion(made, [one_object(2)])["class_error"] == 100


def test_cardinality_error_counts_the_objects_of_each_image_for_every_set():
    made = outputs(batch=2) | {"aux_outputs": [outputs(batch=2, queries=5, seed=2)]}
    terms = SetCriterion(3, HungarianMatcher(), WEIGHTS)(made, [NO_OBJECT, one_object()])
    for suffix, logits in (("", made["pred_logits"]), ("_0", made["aux_outputs"][0]["pred_logits"])):
        found = [sum(int(query.argmax()) != 2 for query in image) for image in logits]
        assert terms[f"cardinality_error{suffix}"] == (abs(found[0] - 0) + abs(found[1] - 1)) / 2


def test_losses_are_divided_by_the_objects_of_the_whole_batch():
    made = outputs(batch=2)
    criterion = SetCriterion(3, HungarianMatcher(), WEIGHTS)
    both = criterion(made, [one_object(), one_object()])
    alone = [criterion({name: value[i : i + 1] for name, value in made.items()}, [one_object()]) for i in range(2)]
    torch.testing.assert_close(both["loss_ce"], (alone[0]["loss_ce"] + alone[1]["loss_ce"]) / 2)


def test_generalized_iou_is_torchvisions():
    torch.manual_seed(0)
    a, b = (cxcywh_to_xyxy(torch.rand(n, 4) + 0.01) for n in (5, 7))
    torch.testing.assert_close(generalized_iou(a[:, None], b[None]), generalized_box_iou(a, b))
    torch.testing.assert_close(xyxy_to_cxcywh(cxcywh_to_xyxy(a)), a)
    far = generalized_iou(torch.tensor([0.0, 0, 1, 1]), torch.tensor([9.0, 0, 10, 1]))
    assert math.isclose(far, -0.8, abs_tol=1e-6)  # hull 10, union 2


def test_more_objects_than_queries_train_all_queries():
    made = outputs(queries=2)
    made["pred_boxes"].requires_grad_()
    many = {"labels": torch.tensor([0, 1, 2, 0, 1]), "boxes": torch.rand(5, 4) * 0.4 + 0.2}
    terms = SetCriterion(3, HungarianMatcher(), WEIGHTS)(made, [many])
    terms["loss_giou"].backward()
    assert (made["pred_boxes"].grad.abs().sum(-1) > 0).all()


@pytest.mark.parametrize("missing", ["pred_logits", "pred_boxes"])
def test_outputs_must_be_complete(missing):
    made = outputs()
    del made[missing]
    with pytest.raises(KeyError, match=missing):
        SetCriterion(3, HungarianMatcher(), WEIGHTS)(made, [one_object()])

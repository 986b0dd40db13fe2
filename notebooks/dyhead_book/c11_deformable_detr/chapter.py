# %% [markdown]
# # Deformable DETR
#
# | | |
# | --- | --- |
# | Time | 75 to 100 minutes with the exercises, under 1 minute to run on 2 CPU cores (a GPU changes nothing) |
# | Memory | under 2 GB, none on a GPU |
# | Needs | multi-scale deformable attention (chapter 10); PyTorch tensors; no GPU |
# | You will build | box refinement, the matching cost, the assignment, and the loss of set prediction |
#
# Most detectors predict many boxes for an object and throw all but one away. DETR predicts a **set**: each
# object query answers for one object or for none, and training sees to it that no two answer for the same.
# There are no anchors, and nothing is suppressed afterwards. This chapter builds what makes that work.

# %%
from itertools import permutations

import torch

from dyhead_book.c11_deformable_detr import refinement_checks as lesson
from dyhead_book.c11_deformable_detr.set_loss_checks import check_set_loss, set_loss
from dyhead_book.practice.drills import drill
from dyhead_book.practice.exercises import Challenge, Exercise
from dyhead_book.practice.predictions import Question
from dyhead_lab.detectors.box_ops import cxcywh_to_xyxy, generalized_iou
from dyhead_lab.detectors.detr.prediction_heads import inverse_sigmoid, refine_boxes
from dyhead_lab.views.figures import Picture

# %% [markdown]
# ## Predict

# %%
where_from = Question(
    "11 first look",
    "Before a query has seen the image it looks around a learned reference point. Where do these points lie?",
    a="all near the middle of the image",
    b="spread over the image",
    c="on the objects of the image",
)
where_from.guess(None)  # write "a", "b" or "c" here

# %% [markdown]
# ## The detector in one picture
#
# <img src="diagrams/decoder_layer.svg" alt="One decoder layer. Queries attend to each other, then read the
# levels at points around their reference boxes, then pass a small network; each step is added and normalised. A
# head corrects the reference box, and the next layer starts from the corrected one, without a gradient through
# it.">
#
# ```text
# image -> backbone -> levels -> encoder: every token reads 4 points per level and head
#                                   |
#            object queries -> decoder: queries read each other, then the levels, layer by layer
#                                   |
#                     class logits and a box from every layer
# ```
#
# A query has a feature and a **reference point**. The decoder layers change the feature. A small network, the
# box head, turns it into a box. `deformable_detr_tiny` is such a detector with 50 queries, trained on Shapes.

# %%
from dyhead_book.figures.object_queries import look
from dyhead_lab.data.shapes import draw_image
from dyhead_lab.zoo import load_trained

trained = load_trained("deformable_detr_tiny")
model = trained.model
picture, objects = draw_image(2026, 1)
image = torch.from_numpy(picture).permute(2, 0, 1) / 255
view = look(model, image)
print(f"{len(view.scores_Q)} queries, {len(objects)} objects, {len(view.best(threshold=0.4))} queries are sure of one")
print(f"{sum(p.numel() for p in model.parameters()):,} parameters. {trained.recipe.expected}")

# %% [markdown]
# ## Build: refine a box
#
# A layer does not predict a box from nothing. It corrects the box $\hat b$ of the layer before (Deformable DETR,
# appendix A.4):
#
# $$b = \sigma\big(\Delta b + \sigma^{-1}(\hat b)\big)$$
#
# $\sigma$ is the sigmoid, $\Delta b$ the output of the box head. The detour through $\sigma^{-1}$ keeps every
# box inside the image, and lets small boxes change in small steps.

# %%
for step in (-1.0, 1.0):
    moved = (inverse_sigmoid(torch.tensor([0.01, 0.5, 0.99])) + step).sigmoid()
    print(f"a step of {step:+} moves 0.01, 0.50, 0.99 to", ", ".join(f"{x:.3f}" for x in moved.tolist()))

# %%
Exercise(
    "Write refine: correct a reference box",
    difficulty=1,
    minutes=5,
    hints={
        "What is the inverse sigmoid?": "log(x / (1 - x)). The library's inverse_sigmoid stays finite at 0 and 1.",
        "Why not add in [0, 1]?": "Then a box near the border leaves the image, and no gradient brings it back.",
    },
    solution=refine_boxes,
)


# %%
def refine(correction_Q4, reference_Q4):
    """Returns boxes (cx, cy, w, h) in [0, 1], (Q, 4)."""
    raise NotImplementedError


lesson.check_refine(refine)

# %% [markdown]
# ## Look: from a point to a box
#
# Here are the best queries after every layer. The first picture shows the learned reference points. They have no
# size, and they are the same for every image.

# %%
from dyhead_book.c11_deformable_detr.box_refinement import refinement_figure

best = {q: view.title(q, trained.categories) for q in view.best(6, threshold=0.3)}
after = [f"after layer {layer + 1}" for layer in range(len(view.boxes_IQ4))]
figure = refinement_figure(view.image, [view.references[0], *view.boxes_IQ4], best, ["reference points", *after])
Picture(figure, alt="Six queries: their reference points, and their boxes after each decoder layer.")

# %% [markdown]
# The first layer makes a box of the point, the others adjust it. Sometimes two queries hold on to one object. Training
# works against that, because only one of them is matched; ten minutes were not enough to end it.
#
# How far do boxes move in each layer? GIoU between the box before and after tells: 1 means that nothing moved.

# %%
chosen = view.best(threshold=0.3)
for layer in range(1, len(view.boxes_IQ4)):
    before, now = (cxcywh_to_xyxy(view.boxes_IQ4[i][chosen]) for i in (layer - 1, layer))
    print(f"layer {layer} -> {layer + 1}: GIoU of the same query {generalized_iou(before, now).mean():.3f}")

# %%
points_Q2 = view.references[0]
spread = points_Q2.std(0).mean().item()
answer = "b" if spread > 0.15 else "a"
where_from.revisit(answer, f"The points have a spread of {spread:.2f} of the image; evenly spread ones have 0.29.")

# %% [markdown]
# Does every query have a place of its own? Below, a dot is the box that a query gave for one of 60 images,
# whether it was sure or not.

# %%
from dyhead_book.c11_deformable_detr.box_refinement import query_places_figure
from dyhead_lab.detectors.image_batch import pad_images

pictures = [torch.from_numpy(draw_image(2028, i)[0]).permute(2, 0, 1) / 255 for i in range(60)]
batch, padding_mask = pad_images(pictures)
with torch.no_grad():
    outputs = model.forward_features(model.backbone(batch), padding_mask)
busiest = outputs["pred_logits"].sigmoid().amax(-1).mean(0).topk(8).indices.tolist()
figure = query_places_figure(outputs["pred_boxes"], busiest, side=batch.shape[-1])
Picture(figure, alt="Where eight queries find their boxes over 60 images: each has a region and sizes of its own.")

# %% [markdown]
# ## Build: what does a match cost?
#
# Before there can be a loss, somebody has to say which query answers for which object. For every pair the cost
# is (DETR, equation 1; the class part is Deformable DETR's)
#
# $$\mathrm{cost}_{qg} = 2\,\mathrm{class}_{qg} + 5\, \lVert b_q - b_g \rVert_1 - 2\,\mathrm{GIoU}(b_q, b_g)$$
#
# $$\mathrm{class}_{qg} = -\alpha (1 - p)^2 \log p + (1 - \alpha)\, p^2 \log(1 - p), \qquad
# p = \sigma(\mathrm{logit}_{q, \mathrm{class}(g)}), \quad \alpha = 0.25$$
#
# The class part is the focal loss of saying "yes", minus that of saying "no". Inside the logarithms stand
# $p + 10^{-8}$ and $1 - p + 10^{-8}$, so that nothing gets infinite.

# %%
Exercise(
    "Write matching_cost: (Q, classes) logits and (Q, 4) boxes against (G,) labels and (G, 4) objects",
    difficulty=3,
    minutes=15,
    hints={
        "How do I get the class of every object?": "logits_QK.sigmoid()[:, labels_G] is (Q, G).",
        "How do I get all pairs of boxes?": "boxes_Q4[:, None] against objects_G4: broadcasting gives (Q, G, 4).",
        "GIoU differs": "It takes corners: cxcywh_to_xyxy of both.",
    },
    solution=lesson.matching_cost,
)


# %%
def matching_cost(logits_QK, boxes_Q4, labels_G, objects_G4):
    """Returns (Q, G)."""
    raise NotImplementedError


lesson.check_cost(matching_cost)

# %% [markdown]
# ## Build: Hungarian matching by hand
#
# Now choose one query for every object, each query at most once, so that the total cost is least. The Hungarian
# algorithm does that in cubic time. For a few objects you can simply try all ways.

# %%
cost = torch.tensor([[1.0, 2.0, 9.0], [2.0, 9.0, 3.0], [9.0, 6.0, 4.0]])  # rows queries, columns objects
for queries in permutations(range(3)):
    total = sum(cost[q, g].item() for g, q in enumerate(queries))
    print("objects 0, 1, 2 <- queries", queries, "total", total)

# %% [markdown]
# Object 0 would like query 0. If it gets it, object 1 has to pay 6 instead of 2. The best total gives query 0 to
# object 1.

# %%
Exercise(
    "Write assign: the query of every object at the least total cost",
    difficulty=2,
    minutes=10,
    hints={
        "Where to begin": "permutations(range(Q), G) gives every way to choose queries in order.",
        "It takes forever": "7 objects and 50 queries: 5e11 ways. The checks are small; SciPy is for the rest.",
    },
    solution=lesson.assign,
)


# %%
def assign(cost_QG):
    """Returns (G,): the query of each object, as a list or a tensor of integers."""
    raise NotImplementedError


lesson.check_assign(assign)

# %% [markdown]
# ## Fast: one copy, no loop over boxes
#
# The library prices all images and all decoder layers in one tensor, copies it to the host once, and lets SciPy
# solve a small assignment per image. Here it is on the picture from above.

# %%
from dyhead_lab.detectors.detr.hungarian_matcher import HungarianMatcher, Predictions, pad_targets
from dyhead_lab.detectors.image_batch import normalise_targets

boxes = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in (o.box for o in objects)], dtype=torch.float32)
target = normalise_targets([{"boxes": boxes, "labels": torch.tensor([o.label for o in objects])}], [image], 6)
predictions = Predictions(view.outputs["pred_logits"], view.outputs["pred_boxes"])
match = HungarianMatcher()([predictions], [pad_targets(target)])[0]
for q, g in zip(match.query.tolist(), match.object.tolist(), strict=True):
    print(f"object {g}, {trained.categories[objects[g].label]:9} <- query {view.title(q, trained.categories)}")

# %% [markdown]
# Every object has a query, the unsure ones too: that is how they learn. All other queries learn to say "nothing
# here".
#
# ## Build: the loss
#
# - **Classes**: the focal loss of all queries and classes. A matched query wants 1 for the class of its object,
#   everything else wants 0.
# - **L1** and **1 - GIoU** of the matched boxes.
#
# All three are sums, divided by the number of objects, or by 1 if there are none.

# %%
Exercise(
    "Write set_loss: class loss, L1 and GIoU loss of one image, given the query of every object",
    difficulty=3,
    minutes=20,
    hints={
        "What is the focal loss?": "torchvision.ops.sigmoid_focal_loss(..., alpha=0.25, gamma=2, reduction='sum').",
        "L1 is wrong with two objects": "boxes_Q4[query_G] brings the predictions into the order of the objects.",
        "The case without objects fails": "Divide by max(objects, 1). All logits still want 0.",
    },
    solution=set_loss,
)


# %%
def my_set_loss(logits_QK, boxes_Q4, labels_G, objects_G4, query_G):
    """Returns three numbers: classes, L1, GIoU; not weighted."""
    raise NotImplementedError


check_set_loss(my_set_loss)

# %% [markdown]
# The library's criterion does the same for every decoder layer, and weights the terms with 2, 5 and 2.

# %%
terms = model.criterion(view.outputs, target)
for name in ("loss_ce", "loss_bbox", "loss_giou"):
    layers = [*(float(terms[f"{name}_{i}"]) for i in range(len(view.boxes_IQ4) - 1)), float(terms[name])]
    print(f"{name:10}", "  ".join(f"layer {i + 1}: {value:.3f}" for i, value in enumerate(layers)))
print("total:", round(sum(model.criterion.weigh(terms).values()).item(), 3))

# %% [markdown]
# ## Two stages
#
# <img src="diagrams/two_stages.svg" alt="Two stages. Every token of the encoder predicts a score and a
# correction of a box that stands at its place, as large as its level. The 300 best become the decoder&#x27;s
# reference boxes, and their sine embedding its queries.">
#
# A learned reference point is the same for every image. The two-stage detector asks the encoder instead: every
# token proposes a box around its own cell, of side $0.05 \cdot 2^l$ on level $l$, and a class head scores it. The
# best 300 become the queries. The encoder is not trained by itself: its head is one more set of predictions with
# the same loss, in the same step.

# %% [markdown]
# ## The published detectors, beside what is counted here
#
# ResNet-50, 50 epochs, COCO val2017. Published: README of the official repository. Counted here: trained
# parameters, and multiply-adds for one image of 800 x 1066 pixels, on PyTorch's meta device, where nothing is
# computed. What the papers call GFLOPs are multiply-adds.

# %%
from dyhead_lab.detectors.detr.configured import deformable_detr
from dyhead_lab.evaluation.efficiency import macs


def counted(**config):
    """Trained parameters and multiply-adds of a Deformable DETR with 91 class columns."""
    with torch.device("meta"), torch.no_grad():
        detector = deformable_detr(91, **config).eval()
        parameters = sum(p.numel() for p in detector.parameters() if p.requires_grad)
        images, padding_mask = torch.zeros(1, 3, 800, 1066), torch.zeros(1, 800, 1066, dtype=torch.bool)
        detector.requires_grad_(False)
        run = lambda: detector.forward_features(detector.backbone(images), padding_mask)  # noqa: E731
        return parameters, macs(detector, run)[""]


# %%
PUBLISHED = {  # AP, AP small, AP medium, AP large, parameters in millions, GFLOPs
    "single scale": ((39.4, 20.6, 43.0, 55.5, 34, 78), {"levels": 1}),
    "single scale, DC5": ((41.5, 24.1, 45.3, 56.0, 34, 128), {"levels": 1, "body": {"dilation": True}}),
    "four levels": ((44.5, 27.1, 47.6, 59.6, 40, 173), {}),
    "+ box refinement": ((46.2, 28.3, 49.2, 61.5, 41, 173), {"refine": True}),
    "++ two stages": ((46.9, 29.6, 50.1, 61.6, 41, 173), {"refine": True, "two_stage": True}),
}
print(f"{'':19}{'published':^42}|{'counted here':^22}")
print(f"{'':19}  AP     S     M     L   params  GFLOPs | parameters    GMAC")
for name, (row, config) in PUBLISHED.items():
    parameters, multiply_adds = counted(**config)
    aps = " ".join(f"{ap:5.1f}" for ap in row[:4])
    print(f"{name:18} {aps}    {row[4]} M     {row[5]:3} | {parameters:10,}   {multiply_adds / 1e9:5.1f}")

# %% [markdown]
# The published GFLOPs are means over images of COCO, which differ in size. Four levels instead of one add 5.1 points
# of AP. Small objects gain most: 6.5 points, against 4.1 for large ones.
#
# And ours? The small detectors on Shapes, DETR and Deformable DETR with the same backbone, steps and images. The
# paper's two claims are that Deformable DETR learns faster and finds small objects better. Look at the spread of a
# difference before you believe it.

# %%
from dyhead_lab.experiments.catalogue import recorded

print(recorded("convergence").table())

# %% [markdown]
# DETR learns next to nothing in six epochs, so this says much about the first claim and nothing about the second.
#
# ## Official weights in
#
# The library's modules have the official parameter names, so the authors' checkpoint files can be read:
# `load_deformable_detr(path)`. The file tells most of the configuration: the loader looks at names and shapes.
# Here the state dict of a random model plays the file. The real ones are linked in the README of
# fundamentalvision/Deformable-DETR.

# %%
from dyhead_lab.detectors.detr.deformable_detr import DeformableDETR, DeformableDETRConfig
from dyhead_lab.detectors.official import load_deformable_detr

torch.manual_seed(0)
config = DeformableDETRConfig(encoder_layers=2, decoder_layers=2, refine=True)
source = DeformableDETR(config).eval()
read = load_deformable_detr({"model": source.state_dict()}, refine=True)
features = [torch.randn(1, channels, size, size) for channels, size in ((512, 16), (1024, 8), (2048, 4))]
padding_mask = torch.zeros(1, 128, 128, dtype=torch.bool)
with torch.no_grad():
    a, b = (m.forward_features(features, padding_mask)["pred_boxes"] for m in (source, read))
print(
    f"{len(source.state_dict())} entries; equal boxes: {torch.equal(a, b)}; layers found: {read.config.encoder_layers}"
)

# %% [markdown]
# The tests of the library hold far more: outputs, every loss and the gradients are those of the official code, to
# four digits and better.
#
# ## Break it
#
# A `matching_cost` with one planted bug. Good experiments: the cost of a perfect query must be the lowest; a
# better box must never cost more.

# %%
suspect = drill(lesson.COST_MISTAKES, 4)
objects_G4, labels_G = torch.tensor([[0.5, 0.5, 0.2, 0.4]], dtype=torch.float64), torch.tensor([1])
for name, box in {"perfect": (0.5, 0.5, 0.2, 0.4), "near": (0.52, 0.5, 0.2, 0.4), "far": (0.2, 0.2, 0.2, 0.4)}.items():
    for sure_of in (0, 1):
        logits = torch.full((1, 2), -3.0, dtype=torch.float64)
        logits[0, sure_of] = 3
        price = suspect(logits, torch.tensor([box], dtype=torch.float64), labels_G, objects_G4).item()
        print(f"{name:8} box, sure of class {sure_of}: {price:6.2f}")

# %% [markdown]
# When you have a guess, run `lesson.check_cost(suspect)`. `drill(lesson.COST_MISTAKES, 0)` to
# `drill(lesson.COST_MISTAKES, 7)` are all different. There are tables for the others too:
# `lesson.REFINE_MISTAKES`, `lesson.ASSIGN_MISTAKES`, and `SET_LOSS_MISTAKES` in
# `dyhead_book.c11_deformable_detr.set_loss_checks`.
#
# ## Exercises

# %%
Challenge(
    "Switch off the self-attention of the decoder in the trained model. What happens, and why?",
    difficulty=3,
    minutes=20,
    hints={
        "How": "Set layer.self_attention = False in every layer of a deepcopy of model.transformer.decoder.layers.",
        "What to look at": "Among the queries above 0.4, count pairs of one class with an IoU above 0.6. Over many "
        "pictures: a few tell you little. How do queries know that another one is there?",
        "Is that fair?": "No: it was trained with it. config decoder_self_attention=False trains without.",
    },
    answer="Doubles. Over draw_image(2026, 0) to draw_image(2026, 59) such pairs rise from 29 to 65, while the queries "
    "above 0.4 hardly change: 151 and 145. Without self-attention a query is not told that another one has the object.",
)

# %%
Challenge(
    "How many matches are solved in a training step of 2 images with 6 decoder layers and two stages?",
    difficulty=1,
    minutes=5,
    hints={
        "Which sets of predictions are there?": "Every decoder layer has a loss of its own, as has the first stage.",
        "Together or apart?": "Each set of each image is matched by itself.",
    },
    answer="14: six layers and the proposals of the encoder are 7 sets, for each of two images.",
)

# %%
Challenge(
    "Replace the Hungarian algorithm by 'every object takes its cheapest query' and train for 300 steps",
    difficulty=4,
    minutes=45,
    hints={
        "Where to change it": "Training calls linear_sum_assignment of dyhead_lab.detectors.detr.hungarian_matcher. "
        "In a notebook, put a function of the cost (queries, objects) there that returns cost.argmin(0) and "
        "np.arange(objects).",
        "How to train": 'dyhead_lab.train("deformable_detr_tiny", out="runs/cheapest", iterations=300).',
        "How to see it": "Compare recall on pictures with many objects.",
    },
    answer="Two objects that lie close may share one query, and then only one of them can be learned. After 300 steps "
    "that does no harm yet. We measured AP 0.065 with the cheapest query, 0.060 with the Hungarian algorithm. On 200 "
    "new pictures recall at IoU 0.5 was 0.16 against 0.15 where more than four objects are, 0.27 against 0.26 where "
    "fewer are. One seed: call it no difference. What would you expect once boxes are sharp?",
)

# %% [markdown]
# ## Recap
#
# - A query has a feature and a reference. Each decoder layer reads around the reference and corrects the box.
# - Corrections count in logits; the reference is detached, so each layer learns its own step.
# - Matching finds the cheapest assignment of queries to objects. It decides what is trained, and is not
#   differentiated itself.
# - All queries enter the class loss, only matched ones the box losses; all sums are divided by the objects.
#
# **Check yourself.** Why does Deformable DETR need no non-maximum suppression? Why is the loss the same for all
# layers? What happens to a query that is never matched?
#
# Chapter 12 makes the encoder cheaper.

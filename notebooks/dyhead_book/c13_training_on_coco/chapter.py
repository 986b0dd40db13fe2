# %% [markdown]
# # Training on COCO
#
# | | |
# | --- | --- |
# | Time | 2 hours with the exercises, about 3 minutes to run on 2 CPU cores (not measured on a GPU) |
# | Memory | 5 GB, most of it for the smoke run of a large detector; on a GPU not measured |
# | Needs | a detector ([chapter 08](08_dynamic_head_on_detectors.ipynb)); **no GPU, no COCO**, but both are used |
# | You will build | the training loop: schedules, parameter groups, accumulation, averaged weights, exact resume |
#
# Deformable DETR trains on COCO for two days on eight GPUs, or for two weeks on one. A mistake in the loop costs that
# much, and most of them raise no error: the loss falls all the same, only not as far. So this chapter builds the loop
# once in the open, part by part, and then holds it against the engine of the library: both must give the same losses
# to the last digit. What is specific to COCO runs as well: on COCO itself where it is on this machine, else on a few
# synthetic pictures of COCO's form and size.

# %%
import copy
import math
import os
import shutil
from dataclasses import replace
from itertools import chain
from pathlib import Path
from tempfile import gettempdir

import torch
from torch import nn

import dyhead_lab
from dyhead_lab import zoo

# the tests run this chapter with a handful of steps in place of a training
FAST = bool(os.environ.get("DYHEAD_FAST"))
folder = Path(gettempdir()) / "dyhead_lab_chapter_13"
shutil.rmtree(folder, ignore_errors=True)  # of an earlier visit

# %% tags=["hide"]
from IPython.display import Markdown

from dyhead_book.c13_training_on_coco.error_checks import check_kind, training_hours
from dyhead_book.c13_training_on_coco.loss_checks import check_normalised_losses
from dyhead_book.c13_training_on_coco.schedule_checks import (
    COSINE_MISTAKES,
    check_cosine_factor,
    check_step_factor,
)
from dyhead_book.c13_training_on_coco.step_checks import (
    check_accumulate,
    check_parameter_groups,
    check_update_average,
)
from dyhead_book.practice.drills import drill
from dyhead_book.practice.exercises import Challenge
from dyhead_book.practice.predictions import Question

# %% [markdown]
# ## Where is COCO?
#
# COCO 2017 has 118,287 training and 5,000 validation pictures with 80 classes, 20 GB in all. `dyhead-lab data coco
# --out data/coco2017` downloads it. If it lies elsewhere, put the folder into `COCO` below, or set the environment
# variable `DYHEAD_DATA` to the folder around `coco2017`. Where nothing is found, the cell writes synthetic pictures:
# clouds with rectangles of 80 "classes" that nothing distinguishes. No detector can learn from them what an object
# is, and yet every line of code runs as it would on COCO.
# %%
from dyhead_lab.data.coco import coco_folder
from dyhead_lab.data.subset import fixed_images
from dyhead_lab.data.synthetic_coco import write_synthetic_coco
from dyhead_lab.paths import coco_path
from dyhead_lab.views.figures import Picture

COCO = coco_path()  # or Path("/where/it/is"), a folder in COCO's format
if not COCO.is_dir():
    COCO = folder / "coco"
    for seed, (split, images) in enumerate({"train": 16, "val": 4}.items()):
        write_synthetic_coco(COCO / split, images, seed)
whole = {split: coco_folder(COCO, split) for split in ("train", "val")}
coco = {"train": fixed_images(whole["train"], 64), "val": fixed_images(whole["val"], 8)}


def part_of_coco(split):
    return coco[split]


for split, dataset in whole.items():
    print(f"{split}: {len(dataset):,} pictures, of which this chapter takes {len(coco[split])}")

# %% [markdown]
# The chapter takes 64 pictures at most, always the same ones: those whose ids have the smallest SHA-256. To train on
# all of it, replace `coco` by `whole` and take the number of steps of the recipe.
#
# ## Look at the data first
#
# Three properties of COCO surprise everybody once.
#
# - **80 classes, 91 ids.** The ids of its categories run from 1 to 90 with gaps, since eleven of 91 were dropped
#   before publication. A detector needs labels without gaps. The library numbers them 0 to 79 in the order of the ids
#   and keeps the ids for the evaluation. The authors' code of DETR's family uses the ids themselves as labels, and so
#   has 91 outputs of which 11 only ever learn "no". (The synthetic files number theirs from 1 to 80.)
# - **Crowds.** About one annotation in a hundred marks a *group* in which nobody counted the objects (`iscrowd`). A
#   detector must not learn one box around thirty people, so they are left out of the targets; the metric forgives
#   whatever is found inside them. (The synthetic files have none.)
# - **Pictures of all sizes.** A batch is one tensor, so smaller pictures are padded. What reads the batch must know
#   where padding begins, and batches of pictures of similar shape (`aspect_grouping`) waste less.

# %%
dataset = coco["train"]
crowds = sum(annotation["iscrowd"] for annotation in dataset.coco.anns.values())
ids = dataset.category_ids
print("ids", ids[:3], "...", ids[-3:], "-> labels 0 to", len(ids) - 1)
print(f"{len(dataset.coco.anns)} objects in {len(dataset)} pictures, {crowds} crowds among them")
image, target = dataset[0]
for name, value in target.items():
    print(f"{name:9}", tuple(value.shape) if isinstance(value, torch.Tensor) else value)

# %% [markdown]
# What the detector is given is not what lies on the disk: pictures are flipped, resized and cropped at random, with
# their boxes (*augmentation*). Look at that, too: the loss does not tell of a box that was not flipped with its
# picture. Here are two pictures of one batch, transformed as DETR's family has it, and padded.

# %%
from dyhead_lab.training.loader import training_batches

shown = zoo.get("deformable_detr_r50").with_changes({"batch_size": 2})
images, targets = next(iter(training_batches(shown, coco["train"])))
print("augmentation", shown.augmentation, "->", [tuple(image.shape) for image in images])

# %% tags=["hide"]
from dyhead_book.c13_training_on_coco.training_figures import batch_figure

figure = batch_figure(images, targets, dataset.categories)
alt = "Two training pictures with their boxes, padded to one size; the padding is hatched."
Picture(figure, alt, colours=256)

# %% [markdown]
# ## Choose a recipe by memory and hours
#
# The unit of the field is the **epoch**, one pass over the training pictures. Detectors with a Dynamic Head are trained
# for 12 to 24 epochs, Deformable DETR for 50, DETR for 500. What a machine has is images per second:
#
# $$\text{hours} = \frac{\text{epochs} \times 118{,}287}{\text{images per second} \times 3600}$$
#
# Before anything is measured, arithmetic gives an estimate: a step costs about three times the multiply-adds of a
# forward pass (one forward, two backward), a multiply-add is two operations, and a GPU sustains a part of what its data
# sheet says. Memory is dominated by the activations kept for the backward pass; they are counted, not guessed.

# %%
from dyhead_lab.zoo.detr_coco import ACTIVATIONS, IMAGES
from dyhead_lab.zoo.dyhead_coco import COUNTED

SUSTAINED = 25e12  # operations per second that we credit a GPU with
lines = ["| recipe | AP | epochs | batch | GB an image | GPU hours |", "| --- " * 6 + "|"]
for name in [*COUNTED, "deformable_detr_r50", "sparse_detr_r50_rho30", "detr_r50"]:
    recipe = zoo.get(name)
    epochs = recipe.iterations * recipe.batch_size / IMAGES
    GMAC, gigabytes = COUNTED.get(name, (None, ACTIVATIONS.get(name)))
    gigabytes = gigabytes / 2 if name in COUNTED else gigabytes  # bfloat16 has half of float32
    hours = f"{3 * 2 * GMAC * 1e9 * epochs * IMAGES / SUSTAINED / 3600:.0f}" if GMAC else "see text"
    AP = "–" if recipe.published_ap is None else f"{100 * recipe.published_ap:.1f}"
    cells = (name, AP, f"{epochs:.0f}", f"{recipe.batch_size}", f"{gigabytes:.1f}", hours)
    lines.append(f"| {' | '.join(cells)} |")
Markdown("\n".join(lines))

# %% [markdown]
# AP is what was published; none of these was trained for this book. For DETR's family the authors state times, on
# V100 GPUs: 325 GPU hours for Deformable DETR, which is 5 images per second and GPU; 28 minutes an epoch on eight
# GPUs for DETR, which makes about 1,900 GPU hours of its 500 epochs. Two commands measure your machine, without COCO:
#
# ```
# dyhead-lab bench train atss_r50_dyhead --synthetic-coco
# dyhead-lab bench loader atss_r50_dyhead --synthetic-coco
# ```
#
# The first says how fast the steps are, and how much memory they take; the second how fast pictures are read, decoded
# and transformed. If the loader is slower than the steps, the GPU waits: the log of every training holds the share of
# the time spent waiting.

# %%
for epochs in (12, 50, 500):
    hours = [f"{training_hours(epochs, speed):7.0f} h" for speed in (5, 20, 100)]
    print(f"{epochs:3} epochs at 5, 20, 100 images/s: {' '.join(hours)}")

# %% [markdown]
# ## Predict
#
# The quickstart detector reaches AP 0.44 on the pictures of Shapes that this book draws. Suppose one kind of its
# mistakes could be mended completely. Which one would raise AP50, the AP at IoU 0.5, the most?

# %% tags=["hide"]
costliest = Question(
    "13 costliest mistake",
    "Which kind of mistake costs the quickstart detector the most AP50?",
    localisation="the right class, but the box fits badly",
    classification="a good box with the wrong class",
    background="a detection where there is nothing",
    missed="an object that nothing comes near",
)
costliest.ask()

# %% [markdown]
# ## Build, step 1: the learning rate
#
# <img src="diagrams/training_step.svg" alt="One step of training: a batch is drawn, the detector gives its
# losses, their gradient flows back, is clipped, and the optimiser moves the weights. An average of the weights
# follows them and is what is evaluated. Weights, moments, average and the number of the step are what a
# checkpoint holds.">
#
# At the start the weights are random, the gradients are large, and a large step leads anywhere. So the rate grows
# over the first $n$ steps, the **warm-up**. At the end small steps let the weights settle. The library's own short
# recipes fall along half a **cosine** to zero at step $N$:
#
# $$\frac{\text{lr}(t)}{\text{peak}} = \begin{cases} (t + 1) / n & t < n \\
# \tfrac{1}{2}\left(1 + \cos\left(\pi\,\frac{t - n}{N - n}\right)\right) & t \ge n \end{cases}$$

# %% [markdown] tags=["workbook"]
# **Exercise 1** (difficulty 1, 10 minutes): `cosine_factor(step, warmup, iterations)`. Return the share of the peak
# rate, a number; steps count from 0, and `warmup` may be 0.
#
# <details><summary>Hint: the first value is 0</summary>Step 0 is the first step that is taken, so it should move:
# step + 1.</details>
# <details><summary>Hint: there is a jump where the warm-up ends</summary>At step n the cosine must be 1: count from
# n.</details>


# %% exercise="cosine_factor"
def cosine_factor(step, warmup, iterations):
    # >>> a straight line up to the end of the warm-up, then half a cosine
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (iterations - warmup)))
    # <<<


# %% check="cosine_factor"
check_cosine_factor(cosine_factor)

# %% [markdown]
# The published recipes fall in **steps** instead: from each milestone on the rate is multiplied by $\gamma = 0.1$. A
# step schedule does not look ahead to the end, so a run may be made longer afterwards, and a checkpoint taken before
# the first drop serves both a short and a long training. A cosine has no such place, and no milestones to tune. Mind
# the difference when you compare with a published number: half-way the one is at its peak, the other at half. The
# warm-up of a step schedule starts at a share of the peak, `warmup_factor`: 1/1000 in the published recipes.

# %% [markdown] tags=["workbook"]
# **Exercise 2** (difficulty 2, 10 minutes): `step_factor(step, milestones, gamma, warmup, warmup_factor)`. Return the
# share of the peak rate. The warm-up grows in a straight line from `warmup_factor` and reaches 1 at its last step;
# `milestones` are numbers of steps.
#
# <details><summary>Hint: where to begin</summary>Two factors, multiplied: how far the warm-up has grown, and how often
# the rate has fallen.</details>
# <details><summary>Hint: the warm-up</summary>It grows in a straight line from warmup_factor to 1:
# <code>warmup_factor + (1 - warmup_factor) * (step + 1) / warmup</code>.</details>
# <details><summary>Hint: the drops</summary>A milestone is reached at its own step: <code>milestone <= step</code>.
# </details>


# %% exercise="step_factor"
def step_factor(step, milestones, gamma, warmup, warmup_factor):
    # >>> the warm-up times gamma for every milestone that is reached
    grown = 1.0
    if step < warmup:
        grown = warmup_factor + (1 - warmup_factor) * (step + 1) / warmup
    return grown * gamma ** sum(milestone <= step for milestone in milestones)
    # <<<


# %% check="step_factor"
check_step_factor(step_factor)


# %% [markdown]
# With both, every recipe of the library has its schedule:


# %%
def factor(recipe, step):
    """The share of the peak rate that a recipe takes at a step."""
    if recipe.schedule == "cosine":
        return cosine_factor(step, recipe.warmup, recipe.iterations)
    drops = recipe.milestones if recipe.schedule == "step" else ()
    return step_factor(step, drops, recipe.gamma, recipe.warmup, recipe.warmup_factor)


from dyhead_lab.training.schedules import rate_factor

for name in ("quickstart", "atss_r50_dyhead", "deformable_detr_r50", "detr_r50"):
    recipe = zoo.get(name)
    steps = range(0, recipe.iterations, max(1, recipe.iterations // 997))
    same = all(factor(recipe, step) == rate_factor(recipe, step) for step in steps)
    drops = f"warm-up {recipe.warmup}, drops at {recipe.milestones}"
    print(f"{name:20} {recipe.schedule:6} {drops}: as the library's {same}")

# %% tags=["hide"]
from dyhead_book.c13_training_on_coco.training_figures import schedules_figure

names = {
    "quickstart": "quickstart: cosine",
    "atss_r50_dyhead": "Dynamic Head: two drops",
    "deformable_detr_r50": "Deformable and Sparse DETR: one drop",
}
rates = {title: [factor(zoo.get(name), s * zoo.get(name).iterations // 600) for s in range(600)]
         for name, title in names.items()}  # fmt: skip
figure = schedules_figure(rates)
Picture(figure, alt="Three schedules: a cosine, one with two drops, and one with a single drop.")

# %% [markdown]
# A schedule belongs to its optimiser, so read it together with the other settings. (The Dynamic Head on Swin-T is the
# exception of its column: AdamW at 1e-4 with weight decay 0.05.)
#
# | | Dynamic Head (Detectron2) | Deformable, Sparse DETR | DETR | quickstart |
# | --- | --- | --- | --- | --- |
# | optimiser | SGD, momentum 0.9 | AdamW | AdamW | AdamW |
# | peak rate | 0.01 for 16 pictures | 2e-4 for 32 (16) | 1e-4 for 64 | 2e-3 for 8 |
# | warm-up | 1,000 steps from 1/1000 | none | none | 200 steps from 0 |
# | drops | at 60,000 and 80,000 of 90,000 | after 40 of 50 epochs | after 400 of 500 | cosine |
# | gradient clipped at | no | norm 0.1 | norm 0.1 | norm 5 |
# | backbone | full rate | a tenth | a tenth | full rate |
# | sampling offsets | full rate | a tenth | none there | a tenth |
# | weight decay | 1e-4, of everything | 1e-4, of everything | 1e-4, of everything | 0.05, of matrices |
#
# Why can DETR's family do without a warm-up? Partly because AdamW bounds the step: it divides every gradient by its own
# running size, so an untrained detector with huge gradients moves no weight by much more than the rate. That does not
# make the first steps small. In the first one every weight moves by the full rate; later steps are shorter, since
# gradients of changing sign cancel in the running mean. So this is no proof that AdamW needs no warm-up (quickstart,
# with ten times the rate, has one), only that 1e-4 and 2e-4 with clipping turned out low enough. With plain SGD, the
# gradient of an untrained detector times the full rate would throw the weights away: hence the 1,000 steps. And what
# does **clipping at norm 0.1** do, when the norm is many times that? Nearly every step is clipped (the cell that trains
# on COCO below prints the norm), so only the direction of the gradient is left. A factor common to all steps does not
# matter to AdamW; what matters is that the gradients of all batches become equally long: one with a huge gradient
# counts no more than any other.
#
# When the batch changes, so must the rate: proportionally with SGD (half the batch, half the rate), by the square
# root with AdamW, as Sparse DETR's code does.
#
# ## Build, step 2: not everything learns at the same rate
#
# <img src="diagrams/parameter_groups.svg" alt="The parts of a detector by how fast they learn. The body of the
# backbone learns at a tenth of the rate, the pyramid on it and the head at the full rate, layers that predict
# sampling offsets at a tenth, and those inside the backbone at a hundredth. Frozen layers stand in no group.">
#
# The **backbone** has learned ImageNet already; at a tenth of the rate it adapts without forgetting. What predicts
# **sampling offsets** learns at a tenth for another reason: an offset decides *where* a layer looks, so when it
# jumps, what the layer has learned about the old place is void. For offsets in the backbone both hold. **Weight
# decay** pulls weights towards zero. For matrices that is a mild preference for simple functions. For the gain of a
# norm zero means silence, so the library's own recipes spare gains and biases; the published ones do not
# (`decay_norms`).
#
# Which layers predict offsets is not guessed from their names: a module says so itself, in `sampling_parameters`. Some
# name a layer, some a single parameter, and a part that is not there is None.


# %%
def sampling_parameters(model):
    """The parameters of a model that decide where it samples, as a set of ids."""
    found = set()
    for module in model.modules():
        for name in getattr(module, "sampling_parameters", ()):
            part = getattr(module, name)
            if part is not None:
                parts = part.parameters() if isinstance(part, nn.Module) else [part]
                found |= {id(p) for p in parts}
    return found


detector = zoo.get("deformable_detr_tiny").build(80)
sampling = sampling_parameters(detector)
print(len(sampling), "of", len(list(detector.parameters())), "parameters, such as")
print([name for name, p in detector.named_parameters() if id(p) in sampling][:3])

# %% [markdown] tags=["workbook"]
# **Exercise 3** (difficulty 3, 20 minutes): `parameter_groups(model, lr, backbone_lr, offset_lr, weight_decay,
# decay_norms)`. `backbone_lr` and `offset_lr` are *factors* of `lr`, such as 0.1: the first for the body of the
# backbone, the second for what `sampling_parameters(model)` finds; a parameter that is both gets both factors. With
# `decay_norms` everything decays by `weight_decay`; without it only parameters of two or more axes do that predict no
# offsets, and all others get a decay of 0. The body of the backbone is `model.backbone.body`, or `model.backbone`
# where no pyramid stands on it; frozen parameters (`requires_grad` is False) stand in no group. Return a list of dicts
# with `params`, `lr`, `initial_lr` (the same number as `lr`: the schedule multiplies it) and `weight_decay`, one for
# each pair of rate and decay.
#
# <details><summary>Hint: where to begin</summary>Two sets of <code>id(parameter)</code>: those of the body, and those
# of the layers that any module names in <code>sampling_parameters</code>.</details>
# <details><summary>Hint: the groups</summary>Collect in a dict with the pair (rate, decay) as key. An optimiser takes a
# list of dicts: <code>{"params": [...], "lr": rate, "weight_decay": decay}</code>. Put the rate in twice, as
# <code>initial_lr</code> too: the schedule multiplies that.</details>
# <details><summary>Hint: what decays</summary>Matrices and kernels, <code>parameter.ndim > 1</code>, but no layer that
# predicts offsets; everything with decay_norms.</details>


# %% exercise="parameter_groups"
def parameter_groups(model, lr, backbone_lr, offset_lr, weight_decay, decay_norms=False):
    # >>> collect what learns by (rate, decay); both factors multiply
    sampling = sampling_parameters(model)
    body = {id(p) for p in getattr(model.backbone, "body", model.backbone).parameters()}
    groups = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            slow = backbone_lr if id(parameter) in body else 1.0
            rate = lr * (offset_lr if id(parameter) in sampling else 1.0) * slow
            decays = decay_norms or (parameter.ndim > 1 and id(parameter) not in sampling)
            decay = weight_decay if decays else 0.0
            new = {"params": [], "lr": rate, "initial_lr": rate, "weight_decay": decay}
            groups.setdefault((rate, decay), new)["params"].append(parameter)
    return list(groups.values())
    # <<<


# %% check="parameter_groups"
check_parameter_groups(parameter_groups)

# %%
for group in parameter_groups(detector, 2e-4, 0.1, 0.1, 1e-4):
    count = sum(p.numel() for p in group["params"])
    print(f"rate {group['lr']:.0e}, decay {group['weight_decay']:.0e}: {count:,} parameters")

# %% [markdown]
# ## Build, step 3: a batch in parts
#
# Sixteen pictures of 800 x 1333 do not fit into most GPUs. Gradients add up, so a batch may come in parts
# (**accumulation**): each part runs forward and backward, and the optimiser steps once at the end. The losses are
# means, so each part's is divided by the number of parts. Two things are *not* the same as with the whole batch.
# Batch norm sees one part at a time. And a loss that is divided by the number of *objects* must be divided by that of
# the whole batch, not of the part; the library's `in_parts` tells DETR's losses so.

# %% [markdown] tags=["workbook"]
# **Exercise 4** (difficulty 2, 15 minutes): `accumulate(model, images, targets, parts)`. `model(images, targets)`
# gives a dict of losses; `parts` divides the number of images. Leave the gradients in the parameters, and return a
# dict: the mean of each loss over the parts.
#
# <details><summary>Hint: where to begin</summary>A loop over the first index of every part:
# <code>range(0, len(images), size)</code>.</details>
# <details><summary>Hint: the gradient is too large</summary><code>(loss / parts).backward()</code>.</details>
# <details><summary>Hint: what is returned</summary>For each name the mean over the parts, without a gradient:
# <code>value.detach() / parts</code>, added up.</details>


# %% exercise="accumulate"
def accumulate(model, images, targets, parts):
    """Add the gradients of a batch that comes in equal parts; the mean losses by name."""
    # >>> forward and backward for each part; divide by their number
    size, means = len(images) // parts, {}
    for first in range(0, len(images), size):
        losses = model(images[first : first + size], targets[first : first + size])
        loss = torch.stack(list(losses.values())).sum()
        (loss / parts).backward()
        for name, value in losses.items():
            means[name] = means.get(name, 0) + value.detach() / parts
    return means
    # <<<


# %% check="accumulate"
check_accumulate(accumulate)

# %% [markdown]
# ## Build, step 4: clip
#
# One strange batch can have a gradient a hundred times as large as others. Clipping scales the *whole* gradient down,
# so that its norm is at most a given number; its direction stays.


# %%
def clip(parameters, most):
    """Scale the gradients so that their common norm is at most ``most``; the norm before."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
    for gradient in gradients:
        gradient *= (most / (norm + 1e-6)).clamp(max=1.0)
    return norm


layers = [nn.Linear(8, 8), nn.Linear(8, 8)]
layers[1].load_state_dict(layers[0].state_dict())
for layer, clipped in zip(layers, (clip, nn.utils.clip_grad_norm_), strict=True):
    (100 * layer(torch.ones(2, 8)).square().sum()).backward()
    norm = clipped(layer.parameters(), 0.1)
    print(f"norm {float(norm):.1f} before, {float(clipped(layer.parameters(), 0.1)):.4f} after")

# %% [markdown]
# From here on PyTorch's does it.
#
# ## Build, step 5: average the weights
#
# Near the end of a training the weights jitter around a good place, and their average lies nearer to it than most
# single ones. So a second copy follows, an **exponential moving average** (EMA), and *it* is evaluated and kept:
#
# $$\bar w \leftarrow d\,\bar w + (1 - d)\, w, \qquad d = \min\Big(\text{decay}, \frac{1 + t}{10 + t}\Big)$$
#
# The second argument keeps the memory short at first; otherwise the random start would stay in the average for a
# thousand steps. The very first update, $t = 0$, is an exception to the formula (which would give $d = 1/10$): there
# $d = 0$, so that after it the average simply is the model.

# %% [markdown] tags=["workbook"]
# **Exercise 5** (difficulty 2, 15 minutes): `update_average(average, model, decay, steps)`, in place, for parameters
# and buffers. `steps` is $t$, the number of updates before this one; at 0 the average becomes the model. Return
# nothing.
#
# <details><summary>Hint: what is averaged</summary>Parameters, and the statistics of batch norm, which are buffers.
# Walk both models at once: <code>zip(chain(average.parameters(), average.buffers()), chain(...))</code>.</details>
# <details><summary>Hint: a tensor of whole numbers cannot be averaged</summary>Batch norm counts its batches. Copy what
# is not <code>is_floating_point()</code>.</details>
# <details><summary>Hint: in place</summary><code>old.lerp_(new, 1 - d)</code> is d * old + (1 - d) * new.</details>


# %% exercise="update_average"
@torch.no_grad()
def update_average(average, model, decay, steps):
    # >>> d of the old, 1 - d of the new; parameters and buffers
    d = min(decay, (1 + steps) / (10 + steps)) if steps else 0.0
    olds = chain(average.parameters(), average.buffers())
    news = chain(model.parameters(), model.buffers())
    for old, new in zip(olds, news, strict=True):
        if old.is_floating_point():
            old.lerp_(new, 1 - d)
        else:
            old.copy_(new)
    # <<<


# %% check="update_average"
check_update_average(update_average)

# %% [markdown]
# ## Build, step 6: the loop
#
# A `Run` holds what changes while a detector learns: weights, the optimiser's moments (running means that AdamW keeps
# of each gradient and of its square), average, number of steps. All randomness follows from the *number of the step*:
# the seed below, the order of the pictures and their transforms. That is what makes an exact resume possible; a
# generator that runs along would have to be saved, on every process, and moved to the right place.

# %%
from dyhead_lab.detectors.losses import in_parts


# %%
class Run:
    def __init__(self, recipe, classes):
        torch.manual_seed(recipe.seed)
        self.recipe, self.steps = recipe, 0
        self.model = recipe.build(classes).to(memory_format=torch.channels_last).train()
        rates = recipe.lr, recipe.backbone_lr, recipe.offset_lr
        groups = parameter_groups(self.model, *rates, recipe.weight_decay, recipe.decay_norms)
        self.optimiser = torch.optim.AdamW(groups)  # the released Dynamic Head has SGD here
        self.average = copy.deepcopy(self.model)

    def step(self, images, targets):
        recipe = self.recipe
        torch.manual_seed(recipe.seed * 2**32 + self.steps)  # dropout, and what else is drawn
        for group in self.optimiser.param_groups:
            group["lr"] = group["initial_lr"] * factor(recipe, self.steps)
        self.optimiser.zero_grad()
        with in_parts([len(target["labels"]) for target in targets], recipe.accumulate):
            losses = accumulate(self.model, images, targets, recipe.accumulate)
        self.norm = nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip_norm)
        self.optimiser.step()
        update_average(self.average, self.model, recipe.ema_decay, self.steps)
        self.steps += 1
        return sum(float(value) for value in losses.values())


# %% [markdown]
# These few lines train every detector of this book. First `quickstart` on small pictures of Shapes, in two parts a
# batch. The loader gives batches without end, from any step on.

# %%
from dyhead_book.practice.drawn_shapes import DrawnShapes

STEPS = 4 if FAST else 60
settings = {"iterations": STEPS, "warmup": STEPS // 4, "batch_size": 8, "accumulate": 2}
settings |= {"precision": "fp32", "model.image_size": 96}
recipe = zoo.get("quickstart").with_changes(settings)
shapes = DrawnShapes(16 if FAST else 160, seed=1, size=96)

run, by_hand = Run(recipe, len(shapes.categories)), []
for images, targets in training_batches(recipe, shapes):
    if run.steps == recipe.iterations:
        break
    by_hand.append(run.step(images, targets))
quarter = max(1, STEPS // 4)
first, last = sum(by_hand[:quarter]) / quarter, sum(by_hand[-quarter:]) / quarter
print(f"{STEPS} steps: loss {first:.3f} in the first quarter, {last:.3f} in the last")

# %% [markdown]
# ## Check: the engine of the library
#
# The same recipe, the same pictures, the library's engine, which adds what a long run needs: several processes, lower
# precision, a look at every loss whether it is still a number, logs, files. Its losses must be yours, not nearly but to
# the last digit, and its averaged weights too.

# %%
from dyhead_lab.training.engine import Engine

engine = Engine(recipe, shapes, shapes, folder / "engine")
engine.model.train()
by_engine = []
for images, targets in engine.batches():
    if engine.iteration == recipe.iterations:
        break
    by_engine.append(engine.step(images, targets)["loss"])
apart = max(abs(a - b) for a, b in zip(by_hand, by_engine, strict=True))
print(f"largest difference of a loss: {apart:.1e}")
pairs = zip(run.average.parameters(), engine.averaged.module.parameters(), strict=True)
print("averaged weights equal to the last bit:", all(torch.equal(a, b) for a, b in pairs))

# %% [markdown]
# ## Stop and continue
#
# A training of a week is stopped at least once: a machine restarts, a queue ends. A checkpoint must hold everything
# that changes. Forgetting the optimiser's moments is the classic mistake: the loss jumps up after every restart and
# comes down again. The file is written under another name and then renamed, since a kill in the middle of writing
# would leave half a file.


# %%
def save(run, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        "steps": run.steps,
        "model": run.model.state_dict(),
        "average": run.average.state_dict(),
        "optimiser": run.optimiser.state_dict(),
    }
    torch.save(state, path.with_suffix(".partial"))
    path.with_suffix(".partial").replace(path)


def resumed(recipe, classes, path):
    run, state = Run(recipe, classes), torch.load(path, weights_only=True)
    run.steps = state["steps"]
    run.model.load_state_dict(state["model"])
    run.average.load_state_dict(state["average"])
    run.optimiser.load_state_dict(state["optimiser"])
    return run


# %% [markdown]
# Half of the steps, a stop, a new `Run` from the file, the other half. The loader starts at the step where it stopped.

# %%
stopped = Run(recipe, len(shapes.categories))
for images, targets in training_batches(recipe, shapes):
    if stopped.steps == recipe.iterations // 2:
        break
    stopped.step(images, targets)
save(stopped, folder / "half.pt")
del stopped

again, losses = resumed(recipe, len(shapes.categories), folder / "half.pt"), []
for images, targets in training_batches(recipe, shapes, start=again.steps):
    if again.steps == recipe.iterations:
        break
    losses.append(again.step(images, targets))
print("losses as without the stop:", losses == by_hand[recipe.iterations // 2 :])
pairs = zip(again.average.parameters(), run.average.parameters(), strict=True)
print("averaged weights equal to the last bit:", all(torch.equal(a, b) for a, b in pairs))

# %% [markdown]
# ## Train on COCO
#
# Now COCO, with the published schedule of Deformable DETR: AdamW at 2e-4, no warm-up, clipping at 0.1, tenths for
# backbone and offsets, one drop after four fifths. Only the detector is the narrow one of
# [chapter 11](11_deformable_detr.ipynb), and the pictures are small, so that a processor can follow. With a GPU, take
# `zoo.get("deformable_detr_r50")` as it is.

# %%
published = zoo.get("deformable_detr_r50")
COCO_STEPS = 2 if FAST else 60
schedule = ("lr", "backbone_lr", "offset_lr", "weight_decay", "decay_norms", "warmup", "clip_norm")
changes = {name: getattr(published, name) for name in (*schedule, "ema_decay", "gamma")}
changes |= {"schedule": "step", "milestones": (COCO_STEPS * 4 // 5,), "iterations": COCO_STEPS}
changes |= {"batch_size": 4, "augmentation": "flip"}
tiny = zoo.get("deformable_detr_tiny")
sizes = {"min_size": 128, "max_size": 192}
on_coco = replace(tiny.with_changes(changes), model={**tiny.model, **sizes})

run, losses = Run(on_coco, len(coco["train"].categories)), []
for images, targets in training_batches(on_coco, coco["train"]):
    if run.steps == on_coco.iterations:
        break
    losses.append(run.step(images, targets))
    if run.steps in (1, COCO_STEPS // 2, COCO_STEPS):
        rates = sorted({f"{group['lr']:.0e}" for group in run.optimiser.param_groups})
        norm = f"gradient {float(run.norm):.0f} before clipping"
        print(f"step {run.steps:2}: loss {losses[-1]:.2f}, {norm}, rates {', '.join(rates)}")

# %% [markdown]
# And with the engine, in one call. The curves below are live: the parts of the loss, the rate, AP where it was
# evaluated. `Save and stop` does what it says; so does the stop button of the notebook, and Ctrl-C in a terminal. Run
# the cell again and it continues from there. `watching` takes objects that are told of every entry of the log. The
# watcher here detects in one fixed photograph after each evaluation, with the checkpoint that the engine has just
# written.

# %%
from dyhead_lab.data.photographs import photograph
from dyhead_lab.training.observer import Silent


class FixedPhoto(Silent):
    """After each evaluation: the best box that the averaged weights find in one photograph."""

    def __init__(self, recipe, categories, path, image):
        self.model, self.categories = recipe.build(len(categories)).eval(), categories
        self.path, self.image, self.seen = path, image, []

    @torch.no_grad()
    def note(self, entry):
        if "AP" in entry:
            state = torch.load(self.path, weights_only=True)["averaged"]
            weights = {name.removeprefix("module."): w for name, w in state.items()}
            del weights["n_averaged"]
            self.model.load_state_dict(weights)
            [found] = self.model([self.image])
            label, score = self.categories[int(found["labels"][0])], float(found["scores"][0])
            self.seen.append(f"step {entry['iteration']}: {label}, score {score:.3f}")


# %%
changes = {"evaluate_every": COCO_STEPS // 2, "checkpoint_every": COCO_STEPS // 2}
watched = replace(on_coco.with_changes(changes), dataset=part_of_coco)
categories = coco["train"].categories
photo = FixedPhoto(watched, categories, folder / "coco_run" / "last.pt", photograph("workshop"))
result = dyhead_lab.train(watched, out=folder / "coco_run", watching=[photo])
print("\n".join(photo.seen))

# %% [markdown]
# In the run folder, `last.pt` is the checkpoint, `weights.pt` holds what was evaluated, in half precision, and
# `log.jsonl` every number of the curves.

# %%
print(*sorted(path.name for path in (folder / "coco_run").iterdir()))

# %% [markdown]
# ### Does the real thing work here?
#
# Before a week is booked, `--smoke` runs every stage of any recipe on a handful of pictures: load, transform, train,
# evaluate, stop, save, continue, write weights, load them. It needs no COCO and no download, and on a processor it
# takes small pictures. This is the real `deformable_detr_r50`, 40 million parameters:

# %%
from dyhead_lab.training.smoke import smoke_run

name = "quickstart" if FAST else "deformable_detr_r50"
numbers = smoke_run(zoo.get(name), COCO, folder / "smoke")
print("AP of", name, "after four steps, which means nothing:", round(numbers["AP"], 3))

# %% [markdown]
# In a terminal:
#
# ```
# dyhead-lab train deformable_detr_r50 --smoke           # as above
# dyhead-lab train deformable_detr_r50 --fraction 0.1    # a fixed tenth of the pictures
# dyhead-lab train deformable_detr_r50                   # one GPU
# accelerate launch --num_processes 8 -m dyhead_lab.cli train deformable_detr_r50
# ```
#
# `--set` changes any setting: `--set accumulate=4` computes the same batch in four parts if it does not fit, `--set
# activation_checkpointing=true` trades time for memory. The end of a run prints its peak of memory; the log holds
# images per second.
#
# ## Many processes
#
# With several GPUs each process has its own copy of the detector and its own share of every batch; the gradients are
# averaged before each step, so that all copies stay equal. In a notebook, `accelerate.notebook_launcher` starts the
# same function in each.
#
# | | one GPU | many GPUs |
# | --- | --- | --- |
# | images | all | every process takes its share of one common sequence |
# | loss | divided by the positives | divided by the *mean* number of positives of the processes |
# | gradient | | averaged over the processes |
# | BatchNorm | of the batch | of the whole batch, over all processes |
# | AP | of all validation images | each process detects its share; gathered, no image twice |
#
# The second line hides a classic mistake. A detector divides its loss by the number of positives, the places or
# queries that have an object. If every process divides by its *own* number, an object counts more on a process with
# few of them. What must each divide by, so that the *mean* of the gradients is the gradient of the whole batch?

# %% [markdown] tags=["workbook"]
# **Exercise 6** (difficulty 3, 15 minutes): `normalised_losses(sums_R, positives_R)`. Return the loss of each of R
# processes, an array (R,).
#
# <details><summary>Hint: what is the loss of the whole batch?</summary>All sums together, divided by all positives
# together.</details>
# <details><summary>Hint: mine is R times too small</summary>The gradients are averaged afterwards. That divides by R
# already.</details>


# %% exercise="normalised_losses"
def normalised_losses(sums_R, positives_R):
    """Of each process the loss summed over its positives, and their number; NumPy arrays (R,)."""
    # >>> so that the mean over the processes is the loss of the whole batch
    return sums_R / positives_R.mean()
    # <<<


# %% check="normalised_losses"
check_normalised_losses(normalised_losses)

# %% [markdown]
# ## What curves say
#
# First, what divergence looks like, since it shows early. Three rates, the same detector, the same pictures, no
# clipping for the third:

# %%
TRY = 4 if FAST else 30
curves = {}
for lr, most in ((2e-5, 5.0), (2e-3, 5.0), (0.5, math.inf)):
    name = f"{lr:g}" if math.isfinite(most) else f"{lr:g}, not clipped"
    changes = {"iterations": TRY, "warmup": 0, "lr": lr, "clip_norm": most, "accumulate": 1}
    tried = recipe.with_changes(changes)
    one, curves[name] = Run(tried, len(shapes.categories)), []
    for images, targets in training_batches(tried, shapes):
        if one.steps == TRY:
            break
        curves[name].append(one.step(images, targets))

# %% tags=["hide"]
from dyhead_book.c13_training_on_coco.training_figures import divergence_figure

figure = divergence_figure(curves)
Picture(
    figure,
    alt="The loss over the first steps on a logarithmic axis: hardly falling at a small rate, "
    "falling at the right one, rising far above its start at a rate that is too large.",
)

# %% [markdown]
# A rate that is too small looks healthy, only slow: compare with another rate before you wait. A rate that is too
# large shows within a few steps. Here the loss jumps a thousandfold and then stands near where it began: what the
# weights knew is gone. Often it ends as *not a number*. The engine stops there, keeps the last checkpoint and saves
# the batch, because sometimes it is not the rate but one broken annotation (`on_nonfinite`).
#
# And this is the log of a real training from its first step to its last: recipe `bccd`, the quickstart detector from
# scratch on 205 photographs of blood cells, on one CPU core. Run the cell, then press play or drag the slider. `replay`
# takes any run folder.

# %%
from dyhead_lab.training.checkpoint import RunLog
from dyhead_lab.views.live import RECORDED, replay

replay()

# %%
entries = RunLog.entries(RECORDED)
epoch = 205 / zoo.get("bccd").batch_size  # steps
steps = [entry for entry in entries if "loss" in entry]
for epochs in (1, 5, 12, 40, 80):
    near = min(steps, key=lambda entry: abs(entry["iteration"] - epochs * epoch))
    print(f"after {epochs:2} epochs: loss {near['loss']:.2f}, rate {near['lr']:.1e}")
for entry in entries:
    if "AP" in entry:
        print(f"iteration {entry['iteration']}: AP {entry['AP']:.3f}, AP50 {entry['AP50']:.3f}")

# %% [markdown]
# What to read from such curves:
#
# - **The loss falls fast, then slowly.** The classification part falls most: at first everything is background.
# - **Centredness hardly falls.** Its target is a soft number, and the loss of a perfect guess of it is not zero
#   ([chapter 08](08_dynamic_head_on_detectors.ipynb)).
# - **AP rises while the loss seems to stand.** In the second half, where the rate falls to zero, the sum hardly
#   moves, and AP still gains. Under a step schedule most of the gain comes at once, at the first drop.
# - **Training loss far below, AP falling:** overfitting. More data, more augmentation, or fewer steps.
# - **A scale ratio moves away from 1:** the level has begun to prefer finer or coarser neighbours ([chapter
#   15](15_learned_scale_ratios.ipynb)).
# - **Corr of a Sparse DETR**, `dam_overlap` in the log, must rise above $\rho$ ([chapter 12](12_sparse_detr.ipynb)).
#   If it stays there, the scorer learns nothing.
#
# No log of a training on COCO ships with this book, so it cannot say what AP to expect after one epoch of it. Keep
# the log of your first run that reached its published number, to compare all later ones with.
#
# The last two numbers come from a look at the same pictures each time, which a call of `probe` does. Before training
# and after it:

# %%
from dyhead_lab.training.probes import probe

looked_at = [DrawnShapes(4).image(i) for i in range(4)]
sparse = zoo.get("sparse_detr_tiny")
fresh, learned = sparse.build(len(shapes.categories)), zoo.load_trained("sparse_detr_tiny").model
for name, one in {"untrained": fresh, "trained": learned}.items():
    overlap = probe(one, looked_at)["dam_overlap"]
    print(f"{name:9}: Corr {overlap:.2f}, by chance {sparse.model['rho']}")

# %% [markdown]
# ## What is still wrong: mistakes by kind
#
# AP says how good a detector is, not what is wrong with it. TIDE ([Bolya et al.,
# 2020](https://arxiv.org/abs/2008.08115)) gives every mistake one of six names and asks how much AP50 would rise if
# all mistakes of one name were mended. A detection that is no hit is judged by two numbers: its largest IoU with an
# object of the class that it names, and with one of another class.
#
# | | kind | IoU with its own class | IoU with another |
# | --- | --- | --- | --- |
# | 0 | localisation | above 0.1, below 0.5 | |
# | 1 | classification | | at least 0.5 |
# | 2 | duplicate | at least 0.5 | |
# | 3 | background | at most 0.1 | at most 0.1 |
# | 4 | both wrong | everything else | |
#
# The sixth kind, *missed*, is an object that no detection comes near.


# %% [markdown] tags=["workbook"]
# **Exercise 7** (difficulty 2, 10 minutes): `kind(own_iou, foreign_iou)`. Return the number of the first line of the
# table that fits, 0 to 4.
#
# <details><summary>Hint: two kinds fit</summary>The first one in the table counts.</details>
# <details><summary>Hint: what is a duplicate?</summary>A good box of the right class that is no hit: a surer detection
# has the object.</details>


# %% exercise="kind"
def kind(own_iou, foreign_iou):
    # >>> the first kind of the table that fits
    if 0.1 < own_iou < 0.5:
        return 0
    if foreign_iou >= 0.5:
        return 1
    if own_iou >= 0.5:
        return 2
    return 3 if max(own_iou, foreign_iou) <= 0.1 else 4
    # <<<


# %% check="kind"
check_kind(kind)

# %%
from dyhead_lab.data.shapes import write_shapes
from dyhead_lab.evaluation.coco_metric import detect_dataset
from dyhead_lab.evaluation.error_analysis import analyse_errors

write_shapes(folder / "new", images=40, seed=2026)
new = coco_folder(folder / "new")
detections = detect_dataset(zoo.load_trained("quickstart").model, new)
report = analyse_errors(new, detections)
print(report.table(least_score=0.3))

# %% tags=["hide"]
from dyhead_lab.views.error_images import errors_picture

worst = report.worst_images(1)[0]
image, _ = new[new.image_ids.index(worst)]
errors_picture(image, worst, report)

# %% [markdown]
# Solid boxes are detections that count as mistakes, dashed ones are objects that were missed. On your own runs,
# `dyhead-lab errors runs/NAME` prints the table and draws the worst pictures; `dyhead-lab compare runs/A runs/B`
# shows two runs side by side. On the blood cells most detections called background are real cells that nobody has
# boxed: look at the pictures before you trust a number.
#
# ## Fine-tune on your own data
#
# With a thousand pictures it pays to start from a trained detector of the same architecture (`start`, or `--from` in
# a terminal). Its classes may be others: what depends on them, the last layer of the classifier, starts anew.
# Everything else keeps what it knows, so fewer steps suffice. How large should the rate be? One often reads: a tenth,
# or what has been learned is lost again. That can be measured. Here 205 photographs of blood cells are learned in 600
# steps, from scratch and from the weights of `quickstart`, which have only seen drawn shapes. The recipe's own rate is
# 0.0015.

# %%
from dyhead_lab.experiments.catalogue import recorded

fine_tuning = recorded("fine_tuning")
for row in fine_tuning.rows:
    print(f"{row:27} AP {fine_tuning.spread(row, 'AP').text()}")

# %% [markdown]
# The start is worth 0.085 AP at the recipe's own rate, and nothing at a tenth of it: the weights hardly leave their
# place. It is one seed and one small data set, whose cells look like none of the six shapes. The closer a start is to
# the new pictures, the less it has to move, and the lower the rate may be. Begin with the recipe's, and try a third.
#
# Here `quickstart` goes on to the 80 classes above.

# %%
quickstart = zoo.load_trained("quickstart")
few = {"iterations": 2 if FAST else 10, "warmup": 1, "batch_size": 4}
few |= {"precision": "fp32", "model.image_size": 128, "evaluate_every": 100}
fine = folder / "fine"
to_coco = replace(quickstart.recipe, dataset=part_of_coco)
dyhead_lab.train(to_coco, out=fine, start=quickstart, progress=False, changes=few)
before, after = quickstart.model.state_dict(), zoo.load_trained(fine).model.state_dict()
for name in ("backbone.body.stem.0.0.weight", "head.classification_head.cls_logits.weight"):
    print(f"{name:45} {tuple(before[name].shape)} -> {tuple(after[name].shape)}")

# %% [markdown]
# Published weights are fine-tuned in the same way, by their name (`dyhead-lab weights` lists all names) or from an
# official checkpoint file:
#
# ```
# dyhead-lab train deformable_detr_r50 --data my_data --from SenseTime/deformable-detr \
#     --set lr=2e-5
# ```
#
# ## Break it
#
# This `cosine_factor` has one planted bug (20 steps of warm-up, 200 in all). Look at its curve before you ask the
# check.

# %%
suspect = drill(COSINE_MISTAKES, 3)

# %% tags=["hide"]
figure = schedules_figure({"the suspect": [suspect(step, 20, 200) for step in range(200)]})
Picture(figure, alt="The share of the peak rate of the suspect over 200 steps.")

# %% [markdown]
# When you have a guess, run `check_cosine_factor(suspect)`. Numbers 0 to 6 give seven different bugs.
#
# ## Go further

# %% tags=["hide"]
Challenge(
    "Train on half of the pictures: dyhead_lab.train(..., fraction=0.5), and compare the runs",
    difficulty=1,
    minutes=10,
    hints={
        "It says that the folder holds another run": "Give it its own: out=folder / 'half'.",
        "How to compare": "dyhead-lab compare FOLDER FOLDER, or comparison_figure of views.curves.",
    },
    answer="The loss falls as fast or faster, since the same pictures come back sooner. The AP on "
    "other pictures tells what they taught. A run of this chapter is too short to tell them apart.",
)

# %% [markdown]
# ## Recap

# %% tags=["hide"]
gains = {kind: report.gains[kind] for kind in costliest.choices}
largest = max(gains, key=gains.get)
raised = f"Mending it would raise AP50 by {gains[largest]:.3f}, from {report.ap50:.3f}."
costliest.revisit(largest, raised)

# %% [markdown]
# - A training is a recipe and a number of steps. Hours follow from images per second.
# - Cosine or steps, warm-up or clipping at 0.1: a schedule belongs to its optimiser.
# - What has learned before, and what decides where to look, learns slower.
# - A run continues exactly if its checkpoint holds all that changes, and chance follows from the number of the step.
# - With many processes the losses are divided by the mean number of positives, so that every object counts the same.
# - Name the mistakes before you change the model, and look at the worst pictures.
#
# **Check yourself.**
#
# <details><summary>Why does a run that is stopped twice end with the same weights as one that is not?</summary>Weights,
# moments, average and step are in the checkpoint; the order of the pictures, their transforms and every seed follow
# from the step.</details>
#
# <details><summary>What goes wrong if each of two processes divides its loss by its own positives?</summary>An object
# in a picture with few of them moves the weights more than one in a crowd, and the result depends on how the pictures
# are shared out.</details>
#
# <details><summary>Why can a run with a step schedule be made longer after it has begun, and one with a cosine not?
# </summary>The cosine at every step depends on where it will end. A longer run would have had other rates from the
# first step on.</details>
#
# <details><summary>Which kind of mistake grows if you lower the score threshold, and why does mending every duplicate
# change AP50 so little?</summary>Background: boxes of low score are mostly nothing. Duplicates have low scores too,
# after suppression, and stand at the end of the ranking, where they cost little precision.</details>

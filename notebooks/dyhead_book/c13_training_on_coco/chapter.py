# %% [markdown]
# # Training on COCO
#
# | | |
# | --- | --- |
# | Time | 45 to 60 minutes with the exercises, under 1 minute to run on 2 CPU cores (not measured on a GPU) |
# | Memory | under 2 GB; on a GPU not measured |
# | Needs | any chapter on a detector; **no GPU and no COCO** |
# | You will do | a training in this cell, the curves of a real one, and a breakdown of a detector's mistakes |
#
# COCO 2017 has 118,287 training images and 80 classes. A full training takes hours on many GPUs or days on one.
# Most of the work around it is the same for a training of ten seconds, and that is what runs here: the schedule,
# the curves, a stop in the middle, the evaluation, and the question of what is still wrong.

# %%
import shutil
from pathlib import Path
from tempfile import gettempdir

import numpy as np

import dyhead_lab
from dyhead_book.c13_training_on_coco import training_checks as lesson
from dyhead_book.practice.drills import drill
from dyhead_book.practice.exercises import Challenge, Exercise
from dyhead_book.practice.predictions import Question
from dyhead_lab import zoo
from dyhead_lab.data.shapes import write_shapes
from dyhead_lab.views.figures import Picture

folder = Path(gettempdir()) / "dyhead_lab_chapter_13"
shutil.rmtree(folder, ignore_errors=True)  # of an earlier visit

# %% [markdown]
# ## Predict
#
# The quickstart detector reaches AP 0.42 on Shapes. Suppose one kind of its mistakes could be mended completely.
# Which one would raise AP50 the most?

# %%
costliest = Question(
    "13 costliest mistake",
    "Which kind of mistake costs the quickstart detector the most AP50?",
    localisation="the right class, but the box fits badly",
    classification="a good box with the wrong class",
    background="a detection where there is nothing",
    missed="an object that nothing comes near",
)
costliest.guess(None)  # put "localisation", "classification", "background" or "missed" here

# %% [markdown]
# ## How long does it take?
#
# The unit of the field is the epoch: one pass over the training images. Detectors with a Dynamic Head are trained
# for 12 to 24 epochs, Deformable DETR for 50, DETR for 500. What a machine has is images per second.
#
# $$\text{hours} = \frac{\text{epochs} \times 118{,}287}{\text{images per second} \times 3600}$$

# %%
for name, epochs in (("12 epochs", 12), ("50 epochs", 50), ("500 epochs", 500)):
    hours = [f"{lesson.training_hours(epochs, speed):7.0f} h" for speed in (5, 20, 100)]
    print(f"{name:>10} at 5, 20, 100 images/s: {' '.join(hours)}")

# %% [markdown]
# Deformable DETR's authors report 325 GPU hours for 50 epochs on V100 GPUs: 5 images per second and GPU.
# Measure your own machine, without COCO:
#
# ```
# dyhead-lab bench train atss_r50_dyhead --synthetic-coco
# dyhead-lab bench loader atss_r50_dyhead --synthetic-coco
# ```
#
# The first says how fast the steps are. The second says how fast images are read, decoded and transformed. If the
# loader is slower than the steps, the GPU waits. The log of every training holds the share of the time that was
# spent waiting.

# %% [markdown]
# ## Build: the learning rate
#
# At the start the weights are random and a large step leads anywhere. So the rate grows over the first $n$ steps
# (warm-up). At the end small steps let the weights settle. So it falls along half a cosine to zero at step $N$:
#
# $$\text{lr}(t) = \text{peak} \cdot \begin{cases} (t + 1) / n & t < n \\
# \tfrac{1}{2}\left(1 + \cos\left(\pi\,\frac{t - n}{N - n}\right)\right) & t \ge n \end{cases}$$

# %%
Exercise(
    "Write learning_rate(step, peak, warmup, iterations)",
    difficulty=1,
    minutes=5,
    hints={
        "The first value is 0": "Step 0 is the first step that is taken, so it should move: step + 1.",
        "There is a jump where the warm-up ends": "At step n the cosine must be 1: count from n.",
    },
    solution=lesson.learning_rate,
)


# %%
def learning_rate(step, peak, warmup, iterations):
    raise NotImplementedError


lesson.check_learning_rate(learning_rate)

# %% [markdown]
# ## Train in this cell
#
# <img src="diagrams/training_step.svg" alt="One step of training: a batch is drawn, the detector gives its
# losses, their gradient flows back, is clipped, and the optimiser moves the weights. An average of the weights
# follows them and is what is evaluated. Weights, moments, average and the number of the step are what a
# checkpoint holds.">
#
# First, 24 small pictures to train on and 6 to evaluate on.

# %%
for split, count, seed in (("train", 24, 1), ("val", 6, 2)):
    write_shapes(folder / "data" / split, images=count, seed=seed, size=96)

# %% [markdown]
# The next cell trains the quickstart detector on them for 40 steps. The numbers mean nothing after so few. Watch
# what is shown: the parts of the loss, the learning rate, AP where it was evaluated, and the **scale ratios** that
# the Dynamic Head has learned so far.
#
# `Save and stop` does what it says. So does the stop button of the notebook, and Ctrl-C in a terminal. The step in
# progress ends first. Run the cell again and it continues from there. It ends with the same weights as a run that
# was never stopped.

# %%
settings = {"iterations": 40, "warmup": 10, "evaluate_every": 20, "checkpoint_every": 20, "batch_size": 4}
result = dyhead_lab.train(
    "quickstart", folder / "data", out=folder / "run", model={"image_size": 96}, precision="fp32", **settings
)

# %% [markdown]
# The run folder explains itself. `last.pt` is the checkpoint, `weights.pt` holds what was evaluated, in half precision.

# %%
print(*sorted(path.name for path in (folder / "run").iterdir()))

# %% [markdown]
# ### The same in a terminal, with all of COCO, on many GPUs
#
# ```
# dyhead-lab data coco --out data/coco2017              # 20 GB; goes on where it was stopped
# dyhead-lab train atss_r50_dyhead --smoke              # every stage on a few images, in two minutes
# dyhead-lab train atss_r50_dyhead --fraction 0.1       # a fixed tenth of the images
# dyhead-lab train atss_r50_dyhead                      # one GPU
# accelerate launch --num_processes 8 -m dyhead_lab.cli train atss_r50_dyhead
# ```
#
# The tenth is always the same tenth: the images whose ids have the smallest SHA-256. `--set` changes any setting:
# `--set accumulate=4` computes the same batch in four parts if it does not fit, and
# `--set activation_checkpointing=true` trades time for memory. In a notebook with several GPUs,
# `accelerate.notebook_launcher` starts the same function in each.
#
# | | one GPU | many GPUs |
# | --- | --- | --- |
# | images | all | every process takes its share of one common sequence |
# | loss | divided by the positives | divided by the *mean* number of positives of the processes |
# | gradient | | averaged over the processes |
# | BatchNorm | of the batch | of the whole batch, over all processes |
# | AP | of all validation images | each process detects its share; gathered, no image twice |
#
# Micro-batches (`accumulate`) work like processes that follow one another, up to two things. BatchNorm sees one
# micro-batch at a time. And ATSS, FCOS, RepPoints and BorderDet divide by the positives of each micro-batch, since
# positives are known only once they are matched. DETR's family divides by the objects of the whole batch.
#
# Evaluations hold the training up: run side by side, both would share one GPU and take as long. On COCO this is about
# 1 % of the time: 5000 images after every 160,000, each for a third of the price, since there is no backward pass.
# The checkpoint before an evaluation makes sure that a kill in the middle costs no step.

# %% [markdown]
# ## Look: a real training, replayed
#
# This is the log of recipe `bccd`: the quickstart detector with a Dynamic Head, from scratch, on 205 photographs of
# blood cells, on one CPU core. Press play, or drag the slider. `replay` takes any run folder.

# %%
from dyhead_lab.training.checkpoint import RunLog
from dyhead_lab.views.live import RECORDED, replay

replay()

# %% [markdown]
# What to read from such curves:
#
# - **The loss falls fast, then slowly.** The classification part falls most: at first everything is background.
# - **Centre-ness hardly falls.** Its target is a soft number, and the loss of a perfect guess of it is not zero.
# - **AP rises while the loss seems to stand.** In the second half, where the rate falls to zero, the sum falls from
#   0.95 to 0.92 only. The two values of AP are printed below.
# - **Training loss far below, AP falling:** overfitting. More data, more augmentation, or fewer steps.
# - **A scale ratio moves away from 1:** the level has begun to prefer finer or coarser neighbours.

# %%
entries = RunLog.entries(RECORDED)
evaluations = [entry for entry in entries if "AP" in entry]
for entry in evaluations:
    print(f"iteration {entry['iteration']}: AP {entry['AP']:.3f}, AP50 {entry['AP50']:.3f}")
waiting = np.mean([entry["waiting"] for entry in entries if "waiting" in entry])
print(f"share of the time spent waiting for images: {waiting:.0%}")

# %% [markdown]
# ## What is still wrong: mistakes by kind
#
# AP says how good, not why not better. TIDE (Bolya et al., 2020) gives every mistake one of six names and asks how
# much AP50 would rise if all mistakes of one name were mended. The quickstart detector on 40 new pictures:

# %%
from dyhead_lab.data.coco import coco_folder
from dyhead_lab.evaluation.coco_metric import detect_dataset
from dyhead_lab.evaluation.error_analysis import analyse_errors

write_shapes(folder / "new", images=40, seed=2026)
shapes = coco_folder(folder / "new")
detections = detect_dataset(zoo.load_trained("quickstart").model, shapes)
report = analyse_errors(shapes, detections)
print(report.table(least_score=0.3))

# %%
from dyhead_lab.views.error_images import errors_picture

worst = report.worst_images(1)[0]
image, _ = shapes[shapes.image_ids.index(worst)]
errors_picture(image, worst, report)

# %% [markdown]
# Solid boxes are detections that count as mistakes, dashed ones are objects that were missed. On your own runs:
# `dyhead-lab errors runs/NAME` prints the table and draws the worst images; `dyhead-lab compare runs/A runs/B`
# shows two runs side by side.
#
# On the blood cells the worst images teach something else: most detections called background there are real cells
# that nobody has boxed. Look at the images before you trust a number.

# %% [markdown]
# ## Break it
#
# This `learning_rate` has one planted bug. Draw it before you ask the check.

# %%
from matplotlib.figure import Figure

from dyhead_lab.views.figures import style

suspect = drill(lesson.LEARNING_RATE_MISTAKES, 3)
with style():
    figure = Figure(figsize=(5, 2.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([suspect(step, 1e-3, 20, 200) for step in range(200)])
    axes.set(xlabel="step", ylabel="learning rate")
Picture(figure, alt="The learning rate of the suspect over 200 steps.")

# %% [markdown]
# When you have a guess, run `lesson.check_learning_rate(suspect)`. Numbers 0 to 5 give six different bugs.

# %% [markdown]
# ## Exercises

# %%
Exercise(
    "Write process_share(iteration, batch_size, rank, world): the places of the endless sequence that a process takes",
    difficulty=2,
    minutes=10,
    hints={
        "Where does an iteration begin?": "All processes together take batch_size places an iteration.",
        "Which of them are mine?": "Every world-th one, beginning with your rank.",
        "Why not a counter of my own?": "Then a run could not continue with another number of processes.",
    },
    solution=lesson.process_share,
)


# %%
def process_share(iteration, batch_size, rank, world):
    raise NotImplementedError


lesson.check_process_share(process_share)

# %%
Exercise(
    "Write normalised_losses(sums_R, positives_R), so that the mean over R processes is the loss of the whole batch",
    difficulty=3,
    minutes=15,
    hints={
        "What is the loss of the whole batch?": "All sums together, divided by all positives together.",
        "Mine is R times too small": "The gradients are averaged afterwards. That divides by R already.",
    },
    solution=lesson.normalised_losses,
)


# %%
def normalised_losses(sums_R, positives_R):
    raise NotImplementedError


lesson.check_normalised_losses(normalised_losses)

# %%
Exercise(
    "Write kind(own_iou, foreign_iou): 0 localisation, 1 classification, 2 duplicate, 3 background, 4 both",
    difficulty=2,
    minutes=10,
    hints={
        "Two kinds fit": "The first one in the list counts.",
        "What is a duplicate?": "A good box of the right class that is no hit: a surer detection has the object.",
    },
    solution=lesson.kind_of_false_positive,
)


# %%
def kind(own_iou, foreign_iou):
    raise NotImplementedError


lesson.check_kind(kind)

# %%
Challenge(
    "Train on half of the pictures: dyhead_lab.train(..., fraction=0.5), and compare the two run folders",
    difficulty=1,
    minutes=10,
    hints={
        "It says that the folder holds another run": "Give it a folder of its own: out=folder / 'half'.",
        "How to compare": "dyhead-lab compare FOLDER FOLDER, or comparison_figure of dyhead_lab.views.curves.",
    },
    answer="The loss falls as fast or faster, since the same pictures come back sooner. The AP on other pictures tells "
    "what they taught. A run of this chapter is too short to tell the two apart.",
)

# %% [markdown]
# ## Recap

# %%
gains = {kind: report.gains[kind] for kind in costliest.choices}
largest = max(gains, key=gains.get)
costliest.revisit(largest, f"Mending it would raise AP50 by {gains[largest]:.3f}, from {report.ap50:.3f}.")

# %% [markdown]
# - A training is a recipe and a number of steps. Hours follow from images per second.
# - Warm-up, then half a cosine to zero. AP still rises where the loss seems to stand.
# - A stopped run continues exactly, because order and transforms depend on the iteration and on nothing else.
# - With many processes the losses are divided by the mean number of positives, so that every object counts the same.
# - Name the mistakes before you change the model, and look at the worst images.
#
# **Check yourself.** Why does a run that is stopped twice end with the same weights as one that is not? What goes
# wrong if each of two processes divides its loss by its own positives? Which kind of mistake grows if you lower the
# score threshold? Why does fixing every duplicate change AP50 so little?

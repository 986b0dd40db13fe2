# %% [markdown]
# # Attention in object detection
#
# | | |
# | --- | --- |
# | Time | 5 minutes to read, under 1 minute to run on 2 CPU cores (a GPU changes nothing) |
# | Memory | under 2 GB, none on a GPU |
# | Needs | nothing: no GPU, no download |
# | You will see | a trained detector at work, and one thing that it has learned |
#
# A detector finds objects and draws a box around each. This book is about the part of a detector that
# decides what to look at. You build that part yourself, piece by piece: in plain Python first, then fast
# on a CPU, then on a GPU. You train it, and you open it up to see what it has learned.
#
# The book follows three papers.
#
# - **Dynamic Head** (Dai et al., 2021) looks three times: at the right scale, at the right place, at the
#   right channels.
# - **Deformable DETR** (Zhu et al., 2021) lets every query look at a few points instead of everywhere.
# - **Sparse DETR** (Roh et al., 2022) refines only the parts of the image that matter.

# %% [markdown]
# ## The chapters
#
# | | chapter | state |
# | --- | --- | --- |
# | 00 | Start here | you are reading it |
# | 01 | [The feature pyramid](01_feature_pyramid.ipynb) | ready |
# | 02 | [Scale-aware attention](02_scale_aware.ipynb) | ready |
# | 03 | [Deformable convolution](03_deformable_convolution.ipynb) | ready |
# | 04 | [The CUDA kernel](04_the_cuda_kernel.ipynb) | ready |
# | 05 | [Spatial-aware attention](05_spatial_aware.ipynb) | ready |
# | 06 | [Task-aware attention](06_task_aware.ipynb) | ready |
# | 07 | [Dynamic Head](07_dynamic_head.ipynb) | ready |
# | 08 | [Dynamic Head on detectors](08_dynamic_head_on_detectors.ipynb) | ready |
# | 09 | [From self-attention to deformable attention](09_self_attention_to_deformable.ipynb) | ready |
# | 10 | [Multi-scale deformable attention](10_multi_scale_deformable_attention.ipynb) | ready |
# | 11 | [Deformable DETR](11_deformable_detr.ipynb) | ready |
# | 12 | [Sparse DETR](12_sparse_detr.ipynb) | ready |
# | 13 | [Training on COCO](13_training_on_coco.ipynb) | ready |
# | 14 | [Attention maps](14_attention_maps.ipynb) | ready |
# | 15 | [Learned scale ratios](15_learned_scale_ratios.ipynb) | ready |
# | 16 | [The kernel race](16_kernel_race.ipynb) | ready |
# | 17 | [Write your own attention](17_write_your_own_attention.ipynb) | ready |
# | 18 | [Formulas](18_formulas.ipynb), each with its code and a number that proves it | ready |
# | 19 | [Notation and glossary](19_notation_and_glossary.ipynb), with Korean and Chinese terms | ready |
# | 20 | [What you may have read elsewhere](20_what_you_may_have_read.ipynb) | ready |
# | 21 | [Paper, released code, this book](21_paper_code_book.ipynb) | ready |
#
# Chapters stand alone. Each one starts from the library, so you can open any of them first.

# %% [markdown]
# ## Does it work on this machine?
#
# The doctor looks at everything the book uses. A line that says `missing` or `broken` ends with the
# command that mends it. No GPU is fine.

# %%
from dyhead_lab.cli import main

status = main(["doctor"])

# %% [markdown]
# ## A picture, and what a small detector finds in it
#
# **Shapes** is the built-in data set. Six classes of textured shapes lie among stones and scratches. Some
# are 8 pixels wide, some fill most of the image, and many hide behind others. The pictures are drawn from
# a seed, so everybody gets the same ones.
#
# **quickstart** is the detector that comes with the book. It has fewer than 1 million parameters and was
# trained on Shapes on 2 CPU cores. You can train it again with `dyhead-lab train quickstart`.
#
# The pictures below were not used in training.

# %%
import torch

from dyhead_lab.data.shapes import draw_image
from dyhead_lab.zoo import load_trained

SEED = 2026  # training and validation use other seeds
pictures = [draw_image(SEED, index)[0] for index in range(8)]
images = [torch.from_numpy(picture).permute(2, 0, 1) / 255 for picture in pictures]

trained = load_trained("quickstart")
print(f"{sum(p.numel() for p in trained.model.parameters()):,} parameters")

# %% [markdown]
# The detector takes a list of images and gives one dictionary for each: boxes, scores and labels. We keep
# a **trace** while it runs. A trace collects what the modules compute inside. It costs nothing when nobody
# looks.

# %%
from dyhead_lab.trace import trace

with torch.no_grad(), trace(trained.model) as seen:
    detections = trained.model(images)

print("traced:", ", ".join(seen.names()))
{name: tuple(tensor.shape) for name, tensor in detections[0].items()}

# %%
from dyhead_lab.views.figures import Picture, detections_figure

threshold = 0.5
figure = detections_figure(images[:3], detections[:3], trained.categories, threshold, height=320)
Picture(figure, alt="Three pictures of Shapes with the boxes that the quickstart detector found.")

# %% [markdown]
# Look for mistakes. Which shapes are missed? Are they small, hidden, or dark on dark? Change `threshold`
# and run the cell again: a lower one shows more boxes, and more wrong ones.

# %% [markdown]
# ## What the detector has learned about scale
#
# The detector looks at an image on four levels. P3 is fine: one cell for every 8 pixels. P6 is coarse: one
# cell for every 64. At each level, Dynamic Head mixes what it sees there with the finer and the coarser
# neighbour. How much each one counts is decided by a **gate**, one number per image:
#
# $$g(X) = \sigma(\mathrm{ReLU}(w \cdot \mathrm{mean}_{HW}(X) + b)), \qquad
# Y = \frac{1}{n} \sum_{i=1}^{n} g(X_i)\, X_i$$
#
# $X_i$ are the $n$ branches that meet at the level, $w$ and $b$ are learned, and $\sigma$ is the hard
# sigmoid $\mathrm{ReLU6}(x + 3) / 6$. Because of the inner ReLU a gate lies between 0.5 and 1.
#
# **Predict first.** Small objects live on fine levels. Will a level listen more to its finer neighbour
# or to its coarser one? Will all levels agree?

# %%
from dyhead_lab.views.scale_weights import ScaleWeights, gates_of

explorer = ScaleWeights(gates_of(seen), levels=["P3", "P4", "P5", "P6"], images=images)
explorer

# %% [markdown]
# Choose a block and a level in the map, with the mouse or with the arrow keys. Click a bar to choose a
# branch. Move the slider to see one image instead of the mean. Python follows your choice. It counts blocks and
# images from 0:

# %%
from IPython.display import display

shown = display(explorer.reading, display_id=True)
explorer.observe(lambda change: shown.update(change["new"]), names="reading")

# %% [markdown]
# The **scale ratio** is the gate of the finest branch over the gate of the coarsest one. Above 1 the finer
# side counts more. A ratio near 1 does not mean that a level ignores its neighbours. It means that the
# gates treat them alike, and that the convolutions before the gates do the choosing.
#
# ## Where to go from here
#
# - Try your own picture: `dyhead-lab detect my_photo.jpg`. The quickstart detector knows only the six
#   shapes, so expect it to see discs and stars where you see wheels and flowers.
# - Train your own detector: `dyhead-lab train quickstart`.
# - See what else the command line can do: `dyhead-lab --help`.
#
# **Check yourself.** Why can a gate of this form never switch a branch off? What would have to change in
# the formula above so that it can?

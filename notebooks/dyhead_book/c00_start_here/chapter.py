# %% [markdown]
# # Attention in object detection
#
# | | |
# | --- | --- |
# | Time | 10 minutes to read, under 1 minute to run on 2 CPU cores (a GPU changes nothing) |
# | Memory | under 2 GB, none on a GPU |
# | Needs | nothing: no GPU, no download |
# | You will see | a trained detector at work on a photograph, and the way through the book |
#
# A detector finds the objects in a picture and draws a box around each. A picture has a hundred thousand
# pixels and a dozen objects, so most of the work is to decide *where to look*. That decision is called
# **attention**, and it is what this book is about. You build it yourself, piece by piece, until what you
# built runs inside a trained detector and finds the same boxes. Three papers lead the way:
#
# - [Dynamic Head](https://arxiv.org/abs/2106.08322) (Dai et al., 2021;
#   [code](https://github.com/microsoft/DynamicHead)) looks three times: at the right scale, at the right
#   place, at the right channels.
# - [Deformable DETR](https://arxiv.org/abs/2010.04159) (Zhu et al., 2021;
#   [code](https://github.com/fundamentalvision/Deformable-DETR)) lets every query read a few points
#   instead of the whole image.
# - [Sparse DETR](https://arxiv.org/abs/2111.14330) (Roh et al., 2022;
#   [code](https://github.com/kakaobrain/sparse-detr)) refines only the parts of the image that matter.
#
# ## Run your first cell
#
# The grey box below is a **cell**: a few lines of Python. Click into it and press **Shift + Enter**. Python
# runs it, shows what comes out below it, and goes on to the next cell. *Run > Run All Cells* in the menu
# runs a whole chapter. A cell uses what the cells above it made, so run them from top to bottom.

# %%
import torch

from dyhead_lab.data.photographs import photograph
from dyhead_lab.zoo import load_trained

workshop = photograph("workshop")
trained = load_trained("everyday")
with torch.no_grad():
    [found] = trained.model([workshop])
print(f"{int((found['scores'] > 0.3).sum())} boxes of a score above 0.3")

# %%
from dyhead_lab.views.figures import Picture, detections_figure

threshold = 0.3
figure = detections_figure([workshop], [found], trained.categories, threshold, height=400)
Picture(figure, alt="A motorcycle in a workshop, with the boxes that the detector found.")

# %% [markdown]
# This photograph goes with you through the whole book. The detector is small enough for a laptop without a
# GPU, and so it makes mistakes: look for things that it missed, and for boxes that are wrong. Then change
# `threshold` in the cell above and run the cell again. A lower one shows more boxes, and more wrong ones.
# Your own picture: `dyhead-lab detect my_photo.jpg --weights everyday` on the command line.
#
# ## The book and the workbook
#
# Every chapter is there twice. In the **book** everything is built before your eyes, and you can run and
# change it. In the **workbook** the same chapter has gaps: you write what is missing, folded hints help, a
# check says what is right or names your mistake, and the answer is one click away. A gap that you leave open
# stops nothing: the chapter goes on with the book's version. The line below the title of each chapter leads
# from one edition to the other.
#
# What you write stays in the notebook when you save it. So work on a copy:
#
# ```
# dyhead-lab book --notebooks --out chapters
# ```
#
# and open `00_start_here.ipynb` in that folder.
#
# - *Keep*: the command never touches a notebook that is in the folder. Right answers are also kept in
#   `~/.local/share/dyhead_lab`, where later chapters find them.
# - *Start a chapter anew*: delete its notebook in the folder, and run the command again.
# - *A new edition*: after `git pull`, the same for the chapters that you want anew; or give the command
#   another folder.
#
# ## The way through the book
#
# Chapters stand alone: each starts from the library, so you can open any of them first. If detection is new
# to you, begin with [chapter 01](01_feature_pyramid.ipynb). If you came for one subject, follow its path. The
# last column counts the exercises of the workbook that you have solved; run the cell to count again.

# %% tags=["hide"]
from dyhead_book.c00_start_here.reading import reading_paths

reading_paths()

# %% [markdown]
# ## Does all of it work on this machine?
#
# The doctor looks at everything that the book uses. A line that says `missing` or `broken` ends with the
# command that mends it. No GPU is fine.

# %%
from dyhead_lab.cli import main

status = main(["doctor"])

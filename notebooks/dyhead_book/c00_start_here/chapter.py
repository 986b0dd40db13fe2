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
# A detector finds the objects in a picture and draws a box around each. A photograph has a million
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
# runs a whole chapter. A cell uses what the cells above it made, so run them from top to bottom. `[*]` beside
# a cell means that it is still running, *Kernel > Interrupt Kernel* stops it, and *Kernel > Restart Kernel and Run
# All Cells* puts everything right that was run out of order. A line such as `...` with an arrow at its left is a
# cell whose code is folded away, because only what it shows matters; click it to read the code. On a narrow screen
# **Ctrl + B** closes the list of files at the left: the wider figures need the room to be read at their full size.
#
# These two cells load a photograph and a detector that is trained already, let it look, and draw what it found: boxes,
# each with a class and a *score*, a number from 0 to 1 that says how sure the detector is.

# %%
import torch

from dyhead_lab.data.photographs import photograph
from dyhead_lab.zoo import load_trained

workshop = photograph("workshop")
trained = load_trained("everyday")
with torch.no_grad():
    [found] = trained.model([workshop])
print("boxes with a score above 0.3:", int((found["scores"] > 0.3).sum()))

# %%
from dyhead_lab.views.figures import Picture, detections_figure

threshold = 0.3
figure = detections_figure([workshop], [found], trained.categories, threshold, height=400)
Picture(figure, alt="A motorcycle in a workshop, with the boxes that the detector found.")

# %% [markdown]
# This photograph goes with you through the whole book. The detector is small enough for a laptop without a
# GPU, and so it makes mistakes: look for things that it missed, and for boxes that are wrong. Then change
# `threshold` in the cell above and run the cell again. A lower one shows more boxes, and more wrong ones.
#
# For a picture of your own open a terminal (*File > New > Terminal*), go to the folder of the project, and type
#
# ```
# source .venv/bin/activate
# dyhead-lab detect my_photo.jpg --weights everyday
# ```
#
# It writes your picture with its boxes into the folder `detections`.
#
# ## The book and the workbook
#
# Every chapter that builds something is there twice. In the **book** it is built before your eyes, and you can run
# and change it. In the **workbook** the same chapter has gaps: you write what is missing, folded hints help, a
# check says what is right or names your mistake, and the answer is one click away. A gap that you leave open
# stops nothing: the chapter goes on with the book's version. The line below the title of each chapter leads
# from one edition to the other.
#
# What you write stays in the notebook when you save it. So work on a copy. In the terminal:
#
# ```
# dyhead-lab book --notebooks --out chapters
# ```
#
# Then open `00_start_here.ipynb` in that folder, and go on there.
#
# - *Keep*: the command never touches a notebook that is in the folder. Right answers are also kept in
#   `~/.local/share/dyhead_lab`, where later chapters find them.
# - *Start a chapter anew*: delete its notebook in the folder, and run the command again.
# - *A new edition*: after `git pull`, the same for the chapters that you want anew; or give the command
#   another folder.
# - *Memory*: an open chapter that has run holds about 0.8 GB, and eight of them 6 to 7 GB, until you choose
#   *Kernel > Shut Down Kernel*. What you wrote and what was printed stays.
#
# ## The way through the book
#
# You need Python and PyTorch: what a tensor, a convolution and `loss.backward()` are. Everything about detection
# is explained where it is first used, and [chapter 19](19_notation_and_glossary.ipynb) has every letter and word.
#
# <img src="diagrams/map_of_the_book.svg" alt="The chapters and what they stand on. 01, the pyramid, and 03,
# deformable convolution, lead to 02, 05 and 06, the three attentions, which 07 joins to the Dynamic Head; 08
# puts it on detectors, 15 looks inside and 17 adds a fourth. 03 also leads to 04 and 16, the kernels, and by 09
# and 10 to Deformable DETR in 11 and Sparse DETR in 12.">
#
# **What first?** If detection is new to you, [chapter 01](01_feature_pyramid.ipynb): it says what a box, a level and
# AP are, and the rest speaks that language. Then follow one path; each begins easy. Chapters stand alone, too:
# each takes what it needs from the library, so you can open any of them at once if you came for one subject. With
# little time read the book's edition and leave the exercises out.
#
# Most chapters begin with a question or two. Guess, by pressing a button, before you know; at the end the chapter comes
# back to your guess with a measurement. The minutes below count reading and exercises. The last column counts the
# exercises of the workbook that you have solved; run the cell to count again.

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

# %% [markdown]
# # The CUDA kernel
#
# | | |
# | --- | --- |
# | Time | 45 to 60 minutes with the exercises, under 1 minute to run on 2 CPU cores (not measured on a GPU) |
# | Memory | under 2 GB; on a GPU not measured |
# | Needs | the formula of deformable convolution (chapter 03); a C++ compiler; **no GPU** |
# | You will see | a real CUDA kernel run thread by thread, and what its threads do to memory |
#
# The kernels of this book are compiled twice: by nvcc for GPUs, and by the C++ compiler together with a small
# **emulator** that plays a GPU on the CPU. It is the same source. The emulator is slow, but it can stop at
# every access to memory. That is what this chapter looks at.

# %%
import numpy as np
import torch

from dyhead_book.c04_the_cuda_kernel.kernel_checks import (
    LINES_MISTAKES,
    check_lines,
    check_owner,
    check_reads,
    input_reads,
    lines_of,
    owner_formula,
)
from dyhead_book.c04_the_cuda_kernel.kernel_reading import Example, kernel_source
from dyhead_book.c04_the_cuda_kernel.memory_figures import atomics_figure, instructions, lines_touched, warp_figure
from dyhead_book.practice.drills import drill
from dyhead_book.practice.exercises import Challenge, Exercise
from dyhead_book.practice.gpu_report import gpu_report
from dyhead_book.practice.predictions import Question

# %%
from dyhead_lab.views.figures import Picture
from dyhead_lab.views.memory_steps import MemorySteps

# %% [markdown]
# ## Predict
#
# A GPU runs threads in **warps** of 32. All threads of a warp do the same step at the same time. When they
# read memory, the hardware fetches whole lines of 128 bytes. 32 threads that read 32 neighbouring floats need
# one line.
#
# In deformable convolution every thread reads where its offset sends it. With offsets of zero a warp needs one or
# two lines.

# %%
scattered = Question(
    "04 lines of a warp",
    "How many lines does a warp need for one read when the offsets are random, with a spread of 4 pixels?",
    a="2 to 4",
    b="5 to 12",
    c="13 or more, up to 32",
)
scattered.guess(None)  # write "a", "b" or "c" here

# %% [markdown]
# ## From loops to threads
#
# <img src="diagrams/threads_and_memory.svg" alt="A kernel runs as a grid of blocks, a block as threads in warps
# of 32. Every thread has registers; the threads of a block share a small fast memory, and wait for each other
# at a barrier; all blocks see the large slow global memory, which moves in sectors of 32 bytes.">
#
# These are the loops of chapter 03, reduced to what matters:
#
# ```python
# for b, o, p in every_output:        # a GPU gives each of these to a thread
#     for c in channels:
#         for k in taps:
#             out[b, o, p] += weight[o, c, k] * sample(b, c, k, p)
# ```
#
# The outer loops disappear. Each output becomes a thread, and the inner loops stay. Here is the kernel. The
# letters are the same.

# %%
kernel_source("forward_simple")

# %% [markdown]
# `thread_number()` says which output this thread begins with. If there are more outputs than threads, it goes
# on with a stride of `thread_count()`. `in.sample` is the bilinear sampling of chapter 03, with its mask.
#
# ## Who computes what
#
# The first line inside the loop over `i` splits this number into pixel, output channel and image.

# %%
Exercise(
    "Write owner(i, Co, S): image b, output channel o and pixel p of output number i",
    difficulty=2,
    minutes=5,
    hints={
        "Which letter runs fastest?": "The last one. In (B, Co, Ho, Wo) that is the pixel: p = i % S.",
        "And then?": "i // S counts channels through all images. Split it once more, by Co.",
    },
    solution=owner_formula,
)


# %%
def owner(i, Co, S):
    raise NotImplementedError  # return b, o, p


check_owner(owner)

# %% [markdown]
# ## Check: the kernel passes the same test as your loops
#
# `backend="emulated"` runs the kernel under the emulator. The check is the one from chapter 03.

# %%
from dyhead_book.practice.deform_conv2d_check import check_deform_conv2d
from dyhead_lab.ops import deform_conv2d


def emulated(input, offset, weight, mask, stride, padding, dilation):
    x, dp, w, dm = (torch.from_numpy(array) for array in (input, offset, weight, mask))
    return deform_conv2d(x, dp, w, None, stride, padding, dilation, dm, backend="emulated").numpy()


check_deform_conv2d(emulated)

# %% [markdown]
# ## Look: one thread, step by step
#
# An input of 5 x 6 pixels, one channel. We follow the thread that computes output pixel 14, in row 2 and
# column 2. For each tap it reads a weight, the two offsets, four pixels, and the mask. Move the slider.

# %%
example = Example(H=5, W=6, offset_scale=0.8)
accesses = example.forward(threads=range(14, 15))
print(len(accesses), "accesses. The first tap:")
for access in accesses[:8]:
    print(f"  {access.operation:5} {access.buffer}[{access.index}] = {access.value:.3f}")

# %%
MemorySteps(accesses, shapes={"input": (5, 6), "output": (5, 6)})

# %% [markdown]
# The four reads of a tap form a small square: the four pixels of bilinear interpolation. Near the border some
# are missing, because a pixel outside is zero and is not read. The only write comes at the very end: the sum
# lives in a register until then.
#
# ## Look: a warp
#
# Now 32 threads together. Each dot is a thread (a *lane* of the warp) and the element that it reads. Blue
# bands are the memory lines that must be fetched for this one step.

# %%
warps = {}
for scale in (0, 1, 4):
    middle = Example(H=96, W=96, offset_scale=scale).forward(block=17, threads=range(32))
    warps[f"offsets with a spread of {scale} pixels"] = instructions(middle, "input")

figure = warp_figure(warps)
Picture(figure, alt="What 32 lanes read at once: larger offsets need more lines.")

# %% [markdown]
# With offsets of zero the lanes read neighbours: the accesses are **coalesced**. Learned offsets are smooth,
# so they lie between the extremes. Random ones are the worst case. Averages over all reads of the warp:

# %%
for title, indices in warps.items():
    print(f"{title:34} {lines_touched(indices).mean():5.1f} lines per read")

# %% [markdown]
# A warp needs up to two lines even without offsets, when its 32 pixels do not begin where a line begins.

# %%
lines_needed = float(lines_touched(list(warps.values())[-1]).mean())
answer = "a" if lines_needed < 4.5 else "b" if lines_needed < 12.5 else "c"
scattered.revisit(answer, f"{lines_needed:.1f} lines per read, mean over all reads of the warp.")

# %% [markdown]
# ## Look: the backward pass and its atomics
#
# In the forward pass each thread writes its own output. In the backward pass a thread has the gradient of one
# *sample*, and gives a share to each of the four pixels that the sample read. Other threads give to the same
# pixels at the same time. `+=` would lose some of that, so the kernel uses `atomicAdd`.

# %%
kernel_source("backward_input_simple")

# %%
example = Example(H=10, W=12, offset_scale=1.0)
accesses = example.backward()
additions = [access for access in accesses if access.operation == "atomic_add"]
print(len(additions), "atomic additions by the 256 threads of the first block")
figure = atomics_figure(additions, "grad_input", shape=(10, 12))
Picture(figure, alt="How often each pixel of the input gradient is added to.")

# %% [markdown]
# Additions to the same pixel queue up. They also arrive in an order that changes from run to run, and
# floating-point sums depend on the order. That is why gradients of this operator usually differ in the last
# digits between runs. After `torch.use_deterministic_algorithms(True)` this library takes another way, without
# atomics, and gives bit-equal gradients.

# %% [markdown]
# ## Fast
#
# The simple kernel reads one float at a time and computes each position again for every channel. The fast
# kernels of `csrc/deform_conv` change three things.
#
# - Neighbouring threads take neighbouring *channels* of the same position. With channels last in memory, their
#   reads are coalesced whatever the offsets are.
# - A thread moves 16 bytes in one instruction.
# - Samples go to shared memory, and the tensor cores do the product with the weights.
#
# ## On a GPU

# %%
print(gpu_report())

# %% [markdown]
# ## Break it
#
# Somebody changes the kernel so that neighbouring threads compute neighbouring output channels of one pixel.
# The result stays right. What happens to the *writes* of a warp, for a float32 output with 64 channels and
# 40 x 40 pixels?

# %%
S = 40 * 40
by_pixel = np.arange(32)[None]
by_channel = np.arange(32)[None] * S
print("lines per write, neighbouring pixels:  ", lines_touched(by_pixel)[0])
print("lines per write, neighbouring channels:", lines_touched(by_channel)[0])

# %% [markdown]
# Every thread writes to a line of its own: 32 times the traffic. The test suite would never notice. Only a
# picture or a stopwatch does.
#
# And here is a function that counts lines, with one planted bug. The first exercise below asks you to write it; ask
# this one what you can count by hand.

# %%
suspect = drill(LINES_MISTAKES, 2)
questions = {"neighbours": np.arange(32), "not aligned": 16 + np.arange(32), "two far apart": np.array([0, 3200])}
for name, elements in questions.items():
    print(f"{name:14} expected {lines_of(elements, 4)}, got {suspect(elements, 4)}")

# %% [markdown]
# When you have a guess, run `check_lines(suspect)`. The numbers 0 to 5 give six bugs.
#
# ## Exercises

# %%
Exercise(
    "Write my_lines(elements_n, element_bytes): how many lines of 128 bytes does a warp need for these elements?",
    difficulty=2,
    minutes=10,
    hints={
        "Which line holds an element?": "Its first byte is element * element_bytes. Lines begin at multiples of 128.",
        "The number is too large": "Lanes that read from the same line share it: count different lines.",
    },
    solution=lines_of,
)


# %%
def my_lines(elements_n, element_bytes):
    raise NotImplementedError


check_lines(my_lines)

# %%
Exercise(
    "Write my_reads(B, C, Co, S, K): how often does the simple forward kernel read `input`, far from the border?",
    difficulty=1,
    minutes=5,
    hints={
        "Where to begin": "Outputs x input channels x taps x four pixels.",
        "Why is that wasteful?": "Every output channel reads the same samples again, Co times.",
    },
    solution=input_reads,
)


# %%
def my_reads(B, C, Co, S, K):
    raise NotImplementedError


check_reads(my_reads)

# %%
Challenge(
    "Find the row of the input where `atomics_figure` counts fewest additions, and say why",
    difficulty=2,
    minutes=10,
    hints={
        "Look at the block": "256 threads are about two of the nine taps of 120 pixels. Which taps are they?",
        "Where do these taps read?": "Taps 0, 1 and 2 read one row above their output.",
    },
    answer="The last row. The first block holds the samples of taps 0 and 1 and a few of tap 2, which all read one row "
    "above their output. Below the last row there are no outputs, so only offsets that point down reach it.",
)

# %% [markdown]
# ## Recap
#
# - A kernel is the body of the loops; the outer loops become threads.
# - A warp reads lines of 128 bytes. Neighbouring lanes should touch neighbouring elements.
# - Offsets scatter the reads of the forward pass and make the additions of the backward pass meet.
#
# **Check yourself.** Why is the mask read after the four pixels, and would the order matter? Why are atomics
# not needed in the kernel that computes `grad_offset`? What would coalesce the reads whatever the offsets are?

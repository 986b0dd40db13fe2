# %% [markdown]
# # The kernel race
#
# | | |
# | --- | --- |
# | Time | 45 to 60 minutes with the exercises, under 1 minute to run on 2 CPU cores (not measured on a GPU) |
# | Memory | under 2 GB; on a GPU not measured |
# | Needs | deformable convolution (chapter 03); what a kernel does to memory (chapter 04) |
# | You will build | the floor that no kernel can pass, and a kernel of your own that enters the race |
#
# The same formula can take 130 milliseconds or 630. This chapter asks how fast it *could* be, how near the kernels
# come, and where yours stands. A time without its machine says nothing, so every number here carries one.

# %%
from dataclasses import replace

import torch

from dyhead_book.c16_kernel_race.race_checks import (
    FLOOR_MISTAKES,
    check_contender,
    check_conv_work,
    check_floor_seconds,
    conv_work,
    floor_seconds,
    sampled_deform_conv2d,
)
from dyhead_book.c16_kernel_race.race_figures import race_figure, roofline_figure
from dyhead_book.practice.drills import drill
from dyhead_book.practice.exercises import Challenge, Exercise
from dyhead_book.practice.gpu_report import gpu_report
from dyhead_book.practice.predictions import Question
from dyhead_lab.ops.bench import measure
from dyhead_lab.ops.bench.problems import Contender, convolution
from dyhead_lab.ops.bench.table import recorded, rows_of
from dyhead_lab.views.figures import Picture

# %% [markdown]
# ## Predict

# %%
what_decides = Question(
    "16 memory or arithmetic",
    "A 3x3 deformable convolution from 256 to 256 channels at 100 x 168 pixels, on a CPU: what bounds its time from "
    "below, moving its numbers through memory, or multiplying them?",
    a="memory: it reads at scattered places",
    b="arithmetic",
    c="both about equally, within a factor of two",
)
what_decides.guess(None)  # put a letter here

# %% [markdown]
# ## The formula
#
# A kernel has to move some bytes and to do some operations. A machine moves $\beta$ bytes and does $\pi$ operations
# per second. Both go on at the same time, so no kernel is faster than
#
# $$t_{\text{floor}} = \max\Big(\frac{\text{bytes}}{\beta}, \frac{\text{operations}}{\pi}\Big)$$
#
# Over the *intensity*, operations per byte, this bound is the **roofline** (Williams et al., 2009). For a deformable
# convolution from $C$ to $C$ channels with nine taps, each number counted once and a multiply-add as two operations:
#
# $$\text{bytes} = 4\,\big(2BCS + 27BS + 9C^2\big), \qquad \text{operations} = 2 \cdot 9\, B S C^2, \qquad S = HW$$
#
# ## Build: the floor

# %%
Exercise(
    "Write my_conv_work(B, C, H, W): bytes and operations",
    difficulty=2,
    minutes=10,
    hints={
        "What is moved?": "Input and output, two offsets and a mask for each tap and pixel, the weight. Each once.",
        "A factor of four or two is off": "Four bytes in a float32, two operations in a multiply-add.",
    },
    solution=conv_work,
)


# %%
def my_conv_work(B, C, H, W):
    raise NotImplementedError  # return bytes, operations


check_conv_work(my_conv_work)

# %%
Exercise(
    "Write my_floor_seconds(bytes_moved, operations, bandwidth, rate)",
    difficulty=1,
    minutes=3,
    hints={
        "Two times": "Bytes over bandwidth, operations over rate.",
        "Add or compare?": "A machine loads while it computes.",
    },
    solution=floor_seconds,
)


# %%
def my_floor_seconds(bytes_moved, operations, bandwidth, rate):
    raise NotImplementedError


check_floor_seconds(my_floor_seconds)

# %% [markdown]
# ## Check: two ceilings of this machine
#
# $\beta$ is measured by copying a tensor, $\pi$ by multiplying two matrices. Small ones here, so that it takes a
# second; `dyhead-lab bench ops` takes larger ones. A ceiling is the *best* of many tries: on a busy machine a single
# try comes out too low, and then kernels seem to pass the floor.

# %%
torch.manual_seed(0)
bandwidth = max(measure.copy_bandwidth("cpu", 64) for _ in range(3))
rate = max(measure.matrix_rate("cpu", 512) for _ in range(10))
print(", ".join(f"{key} {value}" for key, value in measure.machine("cpu").items()))
print(f"this machine: {bandwidth / 1e9:.0f} GB/s, {rate / 1e9:.0f} GFLOP/s, corner at {rate / bandwidth:.1f} op/byte")
work = conv_work(1, 256, 100, 168)
times = {"memory": work[0] / bandwidth * 1e3, "arithmetic": work[1] / rate * 1e3}
print(f"256 channels at 100 x 168: memory {times['memory']:.1f} ms, arithmetic {times['arithmetic']:.1f} ms")

# %% [markdown]
# ## Look: what was recorded
#
# The project ships a table from `dyhead-lab bench ops`, with its machine and its date. Contenders took turns, so that
# a busy moment met them all; the numbers are medians.

# %%
table = recorded("cpu")
print(", ".join(f"{key} {value}" for key, value in table["machine"].items()))
forward = [row for row in table["rows"] if row["pass"] == "forward"]
Picture(
    race_figure(forward), alt="Recorded forward times of ours, torchvision, plain conv2d and grid_sample, with floors."
)

# %%
both = [row for row in table["rows"] if row["pass"] == "forward + backward"]
Picture(race_figure(both), alt="Recorded times of the forward and backward pass, with floors.")

# %% [markdown]
# Plain `conv2d` is there because a deformable convolution ends in the same matrix product. In float32 it comes to the
# floor, sometimes a little below: a convolution may save operations, and the rate was measured with one matrix size.
# Sampling keeps the deformable one above it.
#
# A floor is counted with the rate of what is multiplied. The processor multiplies bfloat16 about twice as fast, so
# the floors of the rows with bf16 lie lower. Peers without bfloat16 compute in float32 there.
#
# For the encoder's `ms_deform_attn` the floor lies far below everybody. It has no matrix product, so its floor counts
# bytes only, and it gives no credit for reading at scattered places. A floor says that nobody goes below, not that
# somebody can reach it. Yet with 300 queries of a decoder the forward pass goes below. Two assumptions fail there: the
# floor counts every value once, and 300 queries do not read all of them; and it takes them from memory, while here
# most of them still lie in the cache.
#
# ## Look: the roofline

# %%
shapes = {"P3 1x256x100x168": (1, 256, 100, 168), "P4 1x256x50x84": (1, 256, 50, 84)}
shapes |= {"P5 2x256x25x42": (2, 256, 25, 42), "small 16x64x20x20": (16, 64, 20, 20)}
points = {}
for row in forward:
    shape = shapes.get(row["problem"].removeprefix("deform_conv2d "))
    if shape:
        bytes_moved, operations = conv_work(*shape)
        reached = operations / (row["median_ms"] / 1e3)
        points.setdefault(row["who"], {})[row["problem"]] = (operations / bytes_moved, reached)
ceilings = table["ceilings"]
then = ceilings["copy_bytes_per_second"], ceilings["float32_operations_per_second"]
Picture(roofline_figure(*then, points), alt="All convolutions lie right of the corner: arithmetic decides.")

# %% [markdown]
# All four problems lie to the right of the corner: with enough channels the matrix product decides, although the
# reads are scattered. What keeps kernels away from the roof is how they *feed* that product.
#
# ## On a GPU

# %%
print(gpu_report())

# %% [markdown]
# ## Fast: your kernel enters
#
# Write the operator with whatever PyTorch offers. It must be right before it may be fast.

# %%
Exercise(
    "Write my_kernel(input, offset, weight, mask): 3x3, stride 1, padding 1",
    difficulty=3,
    minutes=30,
    hints={
        "Where to begin": "Tap k reads at row k // 3 - 1 + dy and column k % 3 - 1 + dx. F.grid_sample samples all "
        "pixels and channels of one tap at once.",
        "Half a pixel off": "With align_corners=False pixel x lies at (2 x + 1) / W - 1.",
        "It is right but slow": "Nine small products cost more than a large one: put the samples of all taps side "
        "by side and multiply once.",
    },
    solution=sampled_deform_conv2d,
)


# %%
def my_kernel(input, offset, weight, mask):
    raise NotImplementedError


check_contender(my_kernel)

# %% [markdown]
# Until yours is right, the solution runs under its name. A small problem, fifteen rounds:

# %%
mine = my_kernel if check_contender(my_kernel) else sampled_deform_conv2d
problem = convolution("deform_conv2d 2x64x20x20", 2, 64, 20, 20, "cpu")
problem = replace(problem, contenders={**problem.contenders, "yours": Contender(mine)})
here = {"copy_bytes_per_second": bandwidth, "float32_operations_per_second": rate}
live = [row for row in rows_of(problem, here, 15, "cpu") if row["pass"] == "forward"]
for row in live:
    print(f"{row['who']:12} {row['median_ms']:8.2f} ms, {row['times_faster_than_peer']:5.2f} x torchvision")

# %%
Picture(race_figure(live), alt="The live race on this machine: ours, torchvision, plain conv2d and yours.")

# %% [markdown]
# Are the results the same? A race between different functions would mean nothing:

# %%
with torch.no_grad():
    results = {name: c.function(*problem.floats) for name, c in problem.contenders.items() if name != "plain conv2d"}
reference = results["torchvision"]
for name, result in results.items():
    error = float((result - reference).norm() / reference.norm())
    print(f"{name:12}", "agrees to 1e-5" if error < 1e-5 else f"differs by {error:.1e}")

# %% [markdown]
# ## Break it
#
# One bug is planted in a floor. Two questions with known answers: a kernel that only moves 8 bytes at 4 bytes per
# second, and one that only does 30 operations at 10 per second.

# %%
suspect = drill(FLOOR_MISTAKES, 1)
for bytes_moved, operations in ((8, 0), (0, 30), (8, 30)):
    expected, got = floor_seconds(bytes_moved, operations, 4, 10), suspect(bytes_moved, operations, 4, 10)
    print(f"{bytes_moved} bytes, {operations:2} operations: expected {expected:.1f} s, got {got:.1f} s")

# %% [markdown]
# When you have a guess, run `check_floor_seconds(suspect)`. The numbers 0 to 4 give five bugs.
#
# ## Exercises

# %%
Challenge(
    "At how many channels does the floor of a convolution at 100 x 168 change from memory to arithmetic here?",
    difficulty=2,
    minutes=10,
    hints={
        "Where to begin": "Intensity grows with C. Compare operations / bytes of conv_work with rate / bandwidth.",
        "By hand": "For large S it is about 18 C C / (8 C + 108) operations per byte.",
    },
    answer="Where 18 C C / (8 C + 108) equals rate / bandwidth of this machine. With ten operations per byte that is "
    "at 10 channels, with fifty at 32: memory decides only in thin layers.",
)

# %%
Challenge(
    "Make your kernel twice as fast on the small problem, or say why it cannot be",
    difficulty=4,
    minutes=60,
    hints={
        "Where does the time go?": "torch.profiler.profile around one call, sorted by self CPU time.",
        "Channels last": "A sample of all channels is one contiguous read if channels run fastest.",
    },
    answer="The library's row in the race is the mark to reach. It gathers all samples into one matrix and leaves the "
    "rest to a matrix product. If it does not lead there, run the race again while nothing else runs.",
)

# %%
Challenge(
    "Record the race on your own machine, and compare it with the table of the project",
    difficulty=1,
    minutes=10,
    hints={
        "How": "dyhead-lab bench ops --quick takes a minute; without --quick it takes the sizes of this chapter.",
        "What to compare": "Not milliseconds: the factor to the peer and the share of the floor travel better.",
    },
    answer="Your milliseconds will differ, the order of the contenders rarely. If it does, look first whether "
    "something else was running.",
)

# %% [markdown]
# ## Recap
#
# - Bytes over bandwidth, operations over rate, the larger of the two: no kernel goes below.
# - Deformable convolution with many channels is bound by arithmetic, attention by points is not.
# - A kernel is right first. Then contenders take turns on one machine, and the machine is named.

# %%
ratio = times["arithmetic"] / times["memory"]
answer = "a" if ratio < 0.5 else "b" if ratio > 2 else "c"
what_decides.revisit(
    answer, f"Memory {times['memory']:.1f} ms, arithmetic {times['arithmetic']:.1f} ms on this machine."
)

# %% [markdown]
# **Check yourself.** Why can plain `conv2d` come out faster than the floor? What would double the intensity of a
# deformable convolution? Why do contenders take turns instead of running one after the other?

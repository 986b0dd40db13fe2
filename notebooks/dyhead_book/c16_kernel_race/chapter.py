# %% [markdown]
# # The kernel race
#
# | | |
# | --- | --- |
# | Time | 60 to 75 minutes with the exercises, under 1 minute to run on 2 CPU cores (not measured on a GPU) |
# | Memory | under 2 GB; on a GPU not measured |
# | Needs | chapters [03](03_deformable_convolution.ipynb) and [04](04_the_cuda_kernel.ipynb) |
# | You will build | the floor that no kernel can pass, a fair race, and a kernel of your own that enters it |
#
# The same formula, on the same machine, takes 109 milliseconds or 637. Both numbers are recorded further below: a
# deformable convolution of 256 channels on a map of 100 x 168 pixels, by this library and by torchvision. When somebody
# shows you such a pair, three questions are worth asking. How fast *could* it be? Was the race fair? And do both
# compute the same?
#
# This chapter answers them in that order. The first needs no race at all: a few counts and two properties of the
# machine give a time that nobody can pass. The second is a matter of method, and you write the method. The third is a
# test. Then you enter the race yourself. A time without its machine says nothing, so every number here carries one.

# %%
from statistics import median
from time import perf_counter

import torch
from torch.nn.functional import conv2d, grid_sample

# %% tags=["hide"]
from dyhead_book.c16_kernel_race.race_checks import (
    FLOOR_MISTAKES,
    check_contender,
    check_conv_work,
    check_floor_seconds,
    check_race,
)
from dyhead_book.c16_kernel_race.race_figures import race_figure, roofline_figure, shares_figure
from dyhead_book.practice.drills import drill
from dyhead_book.practice.exercises import Challenge
from dyhead_book.practice.gpu_report import gpu_report
from dyhead_book.practice.predictions import Question
from dyhead_lab.ops.bench import measure
from dyhead_lab.ops.bench.table import recorded
from dyhead_lab.views.figures import Picture

# %% [markdown]
# ## Predict

# %%
what_decides = Question(
    "16 memory or arithmetic",
    "A 3x3 deformable convolution from 256 to 256 channels at 100 x 168 pixels, on a CPU: what "
    "bounds its time from below, moving its numbers through memory, or multiplying them?",
    a="memory: it reads at scattered places",
    b="arithmetic",
    c="both about equally, within a factor of two",
)
what_decides.ask()

# %% [markdown]
# ## How fast could it be?
#
# A kernel does two things: it moves numbers between memory and the processor, and it calculates with them. A
# machine has a limit for each. It moves at most $\beta$ bytes per second, its *bandwidth*, and does at most $\pi$
# operations per second, its *rate*. Both go on at the same time, because a processor loads the next numbers while it
# multiplies the last ones. So no kernel is faster than
#
# $$t_{\text{floor}} = \max\Big(\frac{\text{bytes}}{\beta}, \frac{\text{operations}}{\pi}\Big)$$
#
# For the bytes we count what cannot be avoided: every number of the arguments read once, every number of the result
# written once. Real kernels read many numbers again ([chapter 04](04_the_cuda_kernel.ipynb) counted how many), but a
# perfect cache would catch that, and a floor must be true for everybody. For the operations, a multiplication and the
# addition that follows count as two, as the makers of processors count.
#
# <img src="diagrams/conv_in_three_steps.svg" alt="A deformable convolution in three steps. Offsets, 18 S
# numbers, give the places. The input, C S numbers, is sampled there: 9 C S samples, each times one of 9 S
# masks. The samples are multiplied with the weight, 9 C C numbers, which takes 2 times 9 S C C operations, and
# give the output, C S numbers.">
#
# For a deformable convolution from $C$ to $C$ channels with nine taps, $B$ images and $S = HW$ pixels, in float32:
#
# $$\text{bytes} = 4\,\big(2BCS + 27BS + 9C^2\big), \qquad \text{operations} = 2 \cdot 9\, B S C^2$$
#
# The terms of the first: input and output, $BCS$ numbers each; two offsets and a mask for each tap and pixel; the
# weight. Of the operations only the product with the weight is counted. Sampling costs a few operations for each of
# $9BCS$ samples, the product $2C$ for each, so with many channels sampling hardly counts.

# %% [markdown] tags=["workbook"]
# **Exercise 1** (difficulty 1, 10 minutes): `conv_work(B, C, H, W)`. Return two whole numbers: bytes and operations.
#
# <details><summary>Hint: what is moved?</summary>
#
# Input and output, two offsets and a mask for each tap and pixel, the weight. Each once.
#
# </details>
# <details><summary>Hint: a factor of four or two is off</summary>
#
# Four bytes in a float32, two operations in a multiply-add.
#
# </details>

# %% exercise="conv_work"
def conv_work(B, C, H, W):
    """Bytes and operations of a 3x3 deformable convolution, C to C channels, in float32."""
    # >>> the numbers of each tensor, four bytes each; two operations for each multiply-add
    pixels = B * H * W
    input_and_output = 2 * pixels * C
    offsets_and_masks = pixels * 9 * 3
    weight = 9 * C * C
    bytes_moved = 4 * (input_and_output + offsets_and_masks + weight)
    return bytes_moved, 2 * pixels * 9 * C * C
    # <<<


# %% check="conv_work"
check_conv_work(conv_work)

# %% [markdown]
# The floor itself is a line:

# %%
def floor_seconds(bytes_moved, operations, bandwidth, rate):
    """No kernel is faster."""
    return max(bytes_moved / bandwidth, operations / rate)


check_floor_seconds(floor_seconds)

# %% [markdown]
# ### Two limits of this machine
#
# $\beta$ is measured by copying a large tensor, $\pi$ by multiplying two matrices, the best-tuned operations there
# are. We take the *best* of several tries: a limit is what the machine can do, and a busy moment only hides it. With
# a limit that is too low, kernels would seem to pass the floor. (For contenders something else is right, as you will
# see.)

# %%
def copy_bandwidth(megabytes=64):
    """Bytes per second: a copy reads and writes each byte."""
    source = torch.ones(megabytes * 2**18)
    target = source.clone()  # its pages are there before the clock runs
    start = perf_counter()
    target.copy_(source)
    return 2 * source.numel() * 4 / (perf_counter() - start)


def matrix_rate(size=512):
    """Operations per second: two for each of size ** 3 multiply-adds."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    start = perf_counter()
    a @ b
    return 2 * size**3 / (perf_counter() - start)


bandwidth = max(copy_bandwidth() for _ in range(5))
rate = max(matrix_rate() for _ in range(10))
print(", ".join(f"{key} {value}" for key, value in measure.machine("cpu").items()))
print(f"this machine: {bandwidth / 1e9:.0f} GB/s, {rate / 1e9:.0f} GFLOP/s")

# %%
bytes_moved, operations = conv_work(1, 256, 100, 168)
memory_ms, arithmetic_ms = bytes_moved / bandwidth * 1e3, operations / rate * 1e3
print(f"{bytes_moved / 1e6:.0f} MB and {operations / 1e9:.0f} billion operations")
print(f"memory {memory_ms:.1f} ms, arithmetic {arithmetic_ms:.1f} ms")
print(f"floor {1e3 * floor_seconds(bytes_moved, operations, bandwidth, rate):.1f} ms")

# %%
ratio = arithmetic_ms / memory_ms
answer = "a" if ratio < 0.5 else "b" if ratio > 2 else "c"
found = f"Memory {memory_ms:.1f} ms, arithmetic {arithmetic_ms:.1f} ms on this machine."
what_decides.revisit(answer, found)

# %% [markdown]
# ## Was the race fair?
#
# A stopwatch fools in four ways. The first run of a function often compiles something or allocates memory; it must
# not count. A machine is never quiet: a browser tab wakes up, the processor gets warm and slows down. If contenders
# run one after the other, a busy minute meets one of them alone, and decides the race; so they *take turns*, and each
# runs once a round. And of its times we take the *median*: a mean is pulled up by a single hiccup, and the minimum
# tells what the machine can do on its best day, which is right for a limit and flattering for a kernel.
#
# <img src="diagrams/taking_turns.svg" alt="The same busy moment in two races of three contenders with four
# rounds. One after the other: it slows three of the four runs of contender B, whose median is wrong. Taking
# turns: it slows one run of each, and the medians forget it.">
#
# On a GPU there is a fifth way: kernels are launched and not waited for, and a stopwatch without
# `torch.cuda.synchronize()` measures the launch. `clock`, a function that gives seconds, is handed in, so that the
# check can use a clock of its own and play a machine that gets busy.

# %% [markdown] tags=["workbook"]
# **Exercise 2** (difficulty 2, 15 minutes): `race(contenders, rounds, clock)`. Call each contender once before the
# first round; `clock()` gives seconds. Return a dict: name -> median of its `rounds` times in seconds.
#
# <details><summary>Hint: where to begin</summary>
#
# A loop that calls each contender once and does not look at the clock.
#
# </details>
# <details><summary>Hint: two loops</summary>
#
# The outer one over rounds, the inner one over contenders: that is taking turns.
#
# </details>
# <details><summary>Hint: one time</summary>
#
# `start = clock(); run(); times[name].append(clock() - start)`
#
# </details>

# %% exercise="race"
def race(contenders, rounds, clock=perf_counter):
    """Median seconds of each contender. `contenders` is name -> function without arguments."""
    # >>> each runs once without counting; then in every round each once, timed; the median of each
    for run in contenders.values():
        run()
    times = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            start = clock()
            run()
            times[name].append(clock() - start)
    return {name: median(seconds) for name, seconds in times.items()}
    # <<<


# %% check="race"
check_race(race)

# %% [markdown]
# ## What was recorded
#
# The project ships a table that `dyhead-lab bench ops` wrote with the same method and more rounds. Nothing of ours ran
# beside it, but the machine is shared with others, and two runs of the same day differed in single rows, once by more
# than a half. `dyhead_lab` is this library's CPU path. `torchvision` is what most people use; its CPU kernel
# samples in a plain loop on one thread, where the others had two. `plain conv2d` is a convolution of the same size
# without any offsets, because a deformable convolution ends in the same product.

# %%
table = recorded("cpu")
print(", ".join(f"{key} {value}" for key, value in table["machine"].items()))
forward = [row for row in table["rows"] if row["pass"] == "forward"]

# %% tags=["hide"]
alt = "Recorded forward times of ours, torchvision, plain conv2d and grid_sample, with floors."
Picture(race_figure(forward), alt=alt)

# %% tags=["hide"]
both = [row for row in table["rows"] if row["pass"] == "forward + backward"]
Picture(race_figure(both), alt="Recorded times of the forward and backward pass, with floors.")

# %% [markdown]
# Read the figures from the floor: a contender *reaches* the share floor / time of it. In float32, plain `conv2d`
# comes to the floor, and sometimes a little below: a convolution may save operations, and the rate was measured with
# one matrix size. The deformable convolution stays above it, because it has to sample first. Forward, `dyhead_lab`
# reaches 75 to 86 percent of the floor with 256 channels, and 35 percent on the small problem with 64, where less
# arithmetic hides the sampling; torchvision reaches 5 to 16 percent. With the backward pass it is 63 to 77 and 30
# percent, and 2 to 6.
#
# A floor is counted with the rate of what is multiplied. The processor multiplies bfloat16 about twice as fast, so the
# floors of the rows with bf16 lie lower. Peers without bfloat16 compute in float32 there, and their names say so.
#
# For the encoder's `ms_deform_attn` ([chapter 10](10_multi_scale_deformable_attention.ipynb)) the floor lies far
# below everybody: forward, `dyhead_lab` reaches 6 to 9 percent. It has no matrix product, so its floor counts bytes
# only, and gives no credit for reading at scattered places. A floor says that nobody goes below, not that somebody
# can reach it. Yet with the 300 queries of a decoder the forward pass *does* go below: it is 1.4 times as fast as its
# floor. Two assumptions fail there. The floor counts every value once, and 300 queries do not read all of them; and
# it takes them from memory, while here most of them still lie in the cache. A bound is only as good as its
# assumptions.
#
# ## The roofline
#
# Divide operations by bytes, and a problem becomes a single number, its *intensity*. Plot speed over intensity, and the
# floor becomes a roof: a slope where memory decides, $\beta$ times the intensity, and a ceiling $\pi$ where arithmetic
# does. This is the [roofline model](https://doi.org/10.1145/1498765.1498785) (Williams, Waterman and Patterson, 2009).

# %%
shapes = {"P3 1x256x100x168": (1, 256, 100, 168), "P4 1x256x50x84": (1, 256, 50, 84)}
shapes |= {"P5 2x256x25x42": (2, 256, 25, 42), "small 16x64x20x20": (16, 64, 20, 20)}
points = {}
for row in forward:
    shape = shapes.get(row["problem"].removeprefix("deform_conv2d "))
    if shape:
        bytes_moved, operations = conv_work(*shape)
        reached = operations / (row["median_ms"] / 1e3)
        points.setdefault(row["who"], {})[row["problem"]] = operations / bytes_moved, reached

# %% tags=["hide"]
ceilings = table["ceilings"]
then = ceilings["copy_bytes_per_second"], ceilings["float32_operations_per_second"]
figure = roofline_figure(*then, points)
Picture(figure, alt="All convolutions lie right of the corner: arithmetic decides.")

# %% [markdown]
# All four problems lie to the right of the corner. With enough channels the product decides, *although* the reads are
# scattered: each sample, once fetched, takes part in $C$ multiply-adds. What keeps kernels away from the roof is how
# they *feed* that product: whether samples come in the order in which it wants them, and whether it waits.
#
# ## On a GPU

# %% tags=["hide"]
print(gpu_report())

# %% [markdown]
# ## Your kernel enters
#
# Write the operator with whatever PyTorch offers. It must be right before it may be fast. `grid_sample` reads all
# channels of an image at any places, bilinearly, with zeros outside: one call for a tap. It wants places as fractions
# between -1 and 1. With `align_corners=False` the *edges* of the image are -1 and 1, so that the centre of pixel $x$
# lies at $(2x + 1)/W - 1$. Forgetting the half pixel is the classic mistake.

# %% [markdown] tags=["workbook"]
# **Exercise 3** (difficulty 3, 30 minutes): `my_kernel(input, offset, weight, mask)`. Offsets are (dy, dx) per tap,
# in pixels; taps run row by row. Return (B, Co, H, W).
#
# <details><summary>Hint: where to begin</summary>
#
# Tap k reads at row `k // 3 - 1 + dy` and column `k % 3 - 1 + dx`, seen from its pixel; `dy` is channel `2 * k` of
# the offsets, `dx` channel `2 * k + 1`.
#
# </details>
# <details><summary>Hint: the grid</summary>
#
# (B, H, W, 2), and x comes first: `torch.stack([(2 * x + 1) / W - 1, (2 * y + 1) / H - 1], -1)`.
#
# </details>
# <details><summary>Hint: it is right but slow</summary>
#
# Nine small products cost more than a large one: put the samples of all taps side by side and multiply once.
#
# </details>

# %% exercise="my_kernel"
def my_kernel(input, offset, weight, mask):
    """3x3, stride 1, padding 1: (B, C, H, W), (B, 18, H, W), (Co, C, 3, 3), (B, 9, H, W)."""
    # >>> sample each tap with grid_sample, times its mask; put the taps side by side; one product
    H, W = input.shape[-2:]
    rows = torch.arange(H, dtype=input.dtype)[:, None]
    columns = torch.arange(W, dtype=input.dtype)
    samples = []
    for k in range(9):
        y = rows + k // 3 - 1 + offset[:, 2 * k]
        x = columns + k % 3 - 1 + offset[:, 2 * k + 1]
        grid = torch.stack([(2 * x + 1) / W - 1, (2 * y + 1) / H - 1], -1)
        samples.append(grid_sample(input, grid, align_corners=False) * mask[:, k, None])
    stacked = torch.stack(samples, 2).flatten(3)  # (B, C, 9, S)
    out = torch.einsum("ock,bcks->bos", weight.flatten(2), stacked)
    return out.unflatten(2, (H, W))
    # <<<


# %% check="my_kernel"
check_contender(my_kernel)

# %% [markdown]
# The race, on a small problem: two images of 64 channels, 20 x 20 pixels, offsets with a standard deviation of 1.5
# pixels.

# %%
from torchvision.ops import deform_conv2d as torchvision_deform_conv2d

from dyhead_lab.ops import deform_conv2d

random = torch.Generator().manual_seed(0)
B, C, H, W = 2, 64, 20, 20
x = torch.randn(B, C, H, W, generator=random)
offset = 1.5 * torch.randn(B, 18, H, W, generator=random)
weight = torch.randn(C, C, 3, 3, generator=random) / (9 * C) ** 0.5
mask = torch.randn(B, 9, H, W, generator=random).sigmoid()
contenders = {
    "dyhead_lab": lambda: deform_conv2d(x, offset, weight, padding=1, mask=mask),
    "torchvision": lambda: torchvision_deform_conv2d(x, offset, weight, padding=1, mask=mask),
    "plain conv2d": lambda: conv2d(x, weight, padding=1),
    "yours": lambda: my_kernel(x, offset, weight, mask),
}

# %% [markdown]
# Before the times, the third question: do all compute the same? A race between different functions would mean nothing.

# %%
with torch.no_grad():
    reference = contenders["torchvision"]()
    for name in ("dyhead_lab", "yours"):
        error = float((contenders[name]() - reference).norm() / reference.norm())
        print(f"{name:12}", "agrees to 1e-5" if error < 1e-5 else f"differs by {error:.1e}")

# %%
with torch.no_grad():
    seconds = race(contenders, rounds=15)
floor = floor_seconds(*conv_work(B, C, H, W), bandwidth, rate)
for name, time in seconds.items():
    factor, share = seconds["torchvision"] / time, floor / time
    print(f"{name:12} {time * 1e3:7.2f} ms, {factor:5.2f} x torchvision, {share:4.0%} of the floor")

# %% tags=["hide"]
live = [
    {"problem": "2x64x20x20", "who": who, "median_ms": 1e3 * s, "fraction_of_floor": floor / s}
    for who, s in seconds.items()
]
alt = "The race on this machine: ours, torchvision, plain conv2d and yours."
Picture(race_figure(live), alt=alt)

# %% [markdown]
# ## Where does the time go?
#
# Before making something faster, find out which part is slow. Three steps make a deformable convolution: find the
# places, sample, multiply. Time them alone, taking turns again.

# %%
places = torch.randn(B, 9 * H, W, 2, generator=random).clamp(-1, 1)
stacked = torch.randn(B, C, 9, H * W, generator=random)
steps = {
    "places": lambda: [torch.stack([offset[:, 2 * k], offset[:, 2 * k + 1]], -1) for k in range(9)],
    "samples": lambda: grid_sample(x, places, align_corners=False),
    "product": lambda: torch.einsum("ock,bcks->bos", weight.flatten(2), stacked),
}
with torch.no_grad():
    of_steps = race(steps, rounds=15)
for name, time in of_steps.items():
    print(f"{name:8} {time * 1e3:6.2f} ms, {time / sum(of_steps.values()):4.0%}")

# %% tags=["hide"]
alt = "Shares of the three steps of a deformable convolution in its time."
Picture(shares_figure(of_steps), alt=alt)

# %% [markdown]
# The floor counts the product alone. What the other two steps take is what a better kernel can win, and no more: if
# the product takes half of the time, nothing that you do to sampling makes the whole more than twice as fast. This is
# [Amdahl's law](https://en.wikipedia.org/wiki/Amdahl%27s_law), and the reason to measure before optimising.
#
# ## A planted bug
#
# One bug is planted in a floor. Ask it questions with known answers: a kernel that only moves 8 bytes at 4 bytes per
# second, one that only does 30 operations at 10 per second, and one that does both.

# %%
suspect = drill(FLOOR_MISTAKES, 1)
for bytes_moved, operations in ((8, 0), (0, 30), (8, 30)):
    case = bytes_moved, operations, 4, 10
    print(f"{case[:2]}: expected {floor_seconds(*case):.1f} s, got {suspect(*case):.1f} s")

# %% [markdown]
# When you have a guess, run `check_floor_seconds(suspect)`. The numbers 0 to 4 give five bugs.

# %%
Challenge(
    "At how many channels does the floor at 100 x 168 change from memory to arithmetic here?",
    difficulty=2,
    minutes=10,
    hints={
        "Where to begin": "Intensity grows with C. Compare operations / bytes of conv_work with "
        "rate / bandwidth.",
        "By hand": "For large S it is about 18 C C / (8 C + 108) operations per byte.",
    },
    answer="Where 18 C C / (8 C + 108) equals rate / bandwidth of this machine. With ten "
    "operations per byte that is at 10 channels, with fifty at 32: memory decides only in thin "
    "layers.",
)

# %%
Challenge(
    "Make your kernel twice as fast on the small problem, or say why it cannot be",
    difficulty=4,
    minutes=60,
    hints={
        "Where does the time go?": "torch.profiler.profile around one call, by self CPU time.",
        "Channels last": "A sample of all channels is one contiguous read if channels run fastest.",
    },
    answer="The library's row in the race is the mark to reach. It gathers all samples into one "
    "matrix and leaves the rest to a matrix product. If it does not lead there, run the race again "
    "while nothing else runs.",
)

# %% [markdown]
# To record the race on your own machine: `dyhead-lab bench ops --quick` takes a minute; without `--quick` it takes the
# sizes of this chapter. Compare not milliseconds but the factor to the peer and the share of the floor: these travel
# better.
#
# ## Recap
#
# - Bytes over bandwidth, operations over rate, the larger of the two: no kernel goes below, as long as its assumptions
#   hold.
# - Deformable convolution with many channels is bound by arithmetic; attention by points is not.
# - In a fair race nobody pays for a first run, contenders take turns, and medians are compared. A limit of the machine
#   is the best of many tries.
# - A kernel is right first. Then it is fast on a machine that has a name.
#
# **Check yourself.**
#
# <details><summary>Why can plain conv2d come out faster than the floor?</summary>
#
# It may save operations (there are algorithms that need fewer multiplications for a 3x3 convolution), and the rate was
# measured with one size of matrix, which need not be the best.
#
# </details>
# <details><summary>What would double the intensity of a deformable convolution?</summary>
#
# Numbers of half the size: 16-bit inputs, outputs and weights halve most of the bytes. Twice the channels does it, too,
# as long as offsets are a small part.
#
# </details>
# <details><summary>Why do contenders take turns instead of running one after the other?</summary>
#
# Whatever happens to the machine then happens to all of them, and the medians forget it.
#
# </details>
# <details><summary>A kernel is 3 times as fast as its peer and reaches 5 percent of its floor. Is it good?</summary>
#
# Perhaps the peer is slow, perhaps the floor is far from what can be reached. The two numbers together say that there
# may be much left to win; neither alone would.
#
# </details>

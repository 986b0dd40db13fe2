# %% [markdown]
# # The CUDA kernel
#
# | | |
# | --- | --- |
# | Time | 90 to 120 minutes with the exercises, under 2 minutes to run on 2 CPU cores (not measured on a GPU) |
# | Memory | under 2 GB; on a GPU not measured |
# | Needs | deformable convolution ([chapter 03](03_deformable_convolution.ipynb)); a C++ compiler; **no GPU** |
# | You will build | five CUDA kernels, from one that adds to a deformable convolution in shared memory |
#
# [Chapter 03](03_deformable_convolution.ipynb) computes a deformable convolution in loops, one addition after another.
# Most of them could happen at the same time: no output waits for another. A graphics processor (GPU) runs tens of
# thousands of threads at once, and it is programmed in [CUDA](https://docs.nvidia.com/cuda/cuda-c-programming-guide/),
# which is C++ with a few words more. Deformable convolution, deformable attention and nearly every operator of a
# detector end in such a program. It is called a *kernel*; with the kernel of a convolution it shares nothing but the
# name.
#
# You write kernels here, as text in a cell. `cuda_kernel(text)` compiles it. Where the tensors lie on a GPU it runs
# there. Where they lie on the CPU it runs in the project's *emulator*: the same text, thread by thread. That is slow,
# and it has one advantage over the real thing: it sees every access to memory before it happens. A GPU that reads
# beyond a tensor returns rubbish, or ends your session; the emulator says which thread did it, and in which line. It
# also counts what moves, and that is what decides how fast a kernel is.

# %% tags=["hide"]
from dyhead_book.c04_the_cuda_kernel import recorded_launches
from dyhead_book.c04_the_cuda_kernel.convolution_checks import check_deform_conv, check_gather
from dyhead_book.c04_the_cuda_kernel.kernel_source import kernel_source
from dyhead_book.c04_the_cuda_kernel.memory_checks import (
    SECTOR_MISTAKES,
    check_blur,
    check_sectors,
    sectors_formula,
)
from dyhead_book.c04_the_cuda_kernel.memory_figures import (
    instructions,
    traffic_figure,
    warp_figure,
)
from dyhead_book.c04_the_cuda_kernel.picture_checks import check_grey, check_sample
from dyhead_book.practice.drills import drill
from dyhead_book.practice.exercises import Challenge
from dyhead_book.practice.gpu_report import gpu_report
from dyhead_book.practice.predictions import Question
from dyhead_book.practice.reader_checks import wrapped
from dyhead_book.practice.rebuilt import check_rebuilt
from dyhead_lab.views.figures import Picture
from dyhead_lab.views.memory_steps import MemorySteps

print(recorded_launches.replayed())

# %%
import torch

from dyhead_lab.ops import formula
from dyhead_lab.ops.cuda_text import KernelError, cuda_kernel

random = torch.Generator().manual_seed(0)

# %% [markdown]
# ## Predict
#
# The hardware never fetches one number from memory. It fetches *sectors* of 32 bytes: eight floats that lie side by
# side. Threads run in groups of 32, called *warps*; a thread of a warp is also called a *lane*. The sectors that a
# warp asks for in one step are fetched together. If its threads read 32 neighbouring floats, that is 4 sectors.

# %%
scattered = Question(
    "04 sectors of a warp",
    "32 threads each read one float, where the offsets of a deformable convolution send them: "
    "up to 4 pixels away, in rows of 32 pixels. How many sectors does the read take, on average?",
    a="4 to 8",
    b="9 to 16",
    c="17 to 32",
)
scattered.ask()

# %% [markdown]
# ## A first kernel
#
# <img src="diagrams/threads_and_memory.svg" alt="A kernel runs as a grid of blocks, a block as threads in warps
# of 32. Every thread has registers; the threads of a block share a small fast memory, and wait for each other
# at a barrier; all blocks see the large slow global memory, which moves in sectors of 32 bytes.">
#
# A kernel is the body of a loop. The loop itself is gone: whoever *launches* the kernel says how many threads there
# shall be, and each thread runs the body once. Threads come in *blocks* of one size, up to 1,024 threads, and the
# blocks form the *grid*. A thread learns from four variables who it is: `blockIdx`, the number of its block;
# `blockDim`, the size of a block; `threadIdx`, its number inside the block; and `gridDim`, the number of blocks. All
# of them have three parts, `.x`, `.y` and `.z`. So the running number of a thread is
#
# $$i = \texttt{blockIdx.x} \cdot \texttt{blockDim.x} + \texttt{threadIdx.x}$$
#
# `__global__` marks the function that is launched. Pointers such as `const float* a` are the tensors: just the address
# of the first element. Shape and strides stay behind in Python; the kernel gets the numbers that it needs as
# arguments.

# %%
add = cuda_kernel("""
__global__ void add(const float* a, const float* b, float* out, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) out[i] = a[i] + b[i];
}
""")
a, b = (torch.rand(1000, generator=random) for _ in range(2))
out = torch.zeros(1000)
launch = add(4, 256, a, b, out, 1000)
print("equal to a + b:", torch.equal(out, a + b))
launch

# %% [markdown]
# Four blocks of 256 threads are 1,024 threads for 1,000 elements. The threads 1,000 to 1,023 must do nothing: that is
# what `if (i < n)` is for, the *guard*. The table shows what the emulator counted, line by line. Each of the 32 warps
# made one request for `a`. The last warp has only 8 active threads, which read a single sector; 31 others read 4. Every
# byte that moved was used.
#
# What if the guard is missing? On a GPU: perhaps nothing, perhaps a wrong number in another tensor. Here:


# %%
def told(run):
    """Runs, or says what went wrong."""
    try:
        return run()
    except KernelError as error:
        print(wrapped(str(error)))


careless = cuda_kernel(add.text.replace("if (i < n) ", ""))
told(lambda: careless(4, 256, a, b, out, 1000))

# %% [markdown]
# And a text that is no C++ is refused at its line, before anything runs:

# %%
told(lambda: cuda_kernel(add.text.replace("b[i];", "b[i]")))

# %% [markdown]
# ## Two dimensions: a photograph in grey
#
# Pictures have rows and columns, and so may blocks. A block of `(32, 4)` is 32 threads wide and 4 high. In memory there
# is only one dimension. A picture (3, H, W) lies there as three planes behind each other, each plane as row behind row,
# and the last letter runs fastest: the pixel in row $y$ and column $x$ is element $yW + x$ of its plane. Let $x$
# run with `threadIdx.x`. Threads are numbered through with $x$ fastest, so that the 32 threads of a warp are
# neighbours in a row.
#
# Here is the photograph that this book follows, at a fifth of its size.

# %%
from dyhead_lab.data.photographs import photograph

photo = photograph("workshop")[:, 2::5, 2::5].contiguous()
print(tuple(photo.shape), "pixels; rows of", photo.shape[2] * 4, "bytes")

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 2 of 5, about 15 minutes. `image` is (3, H, W), `out` is (H, W): the mean of the colours.
#
# <details><summary>Hint: where to begin</summary>
#
# `int x = blockIdx.x * blockDim.x + threadIdx.x;`, and `y` the same way from the `.y` parts.
#
# </details>
# <details><summary>Hint: which threads have nothing to do?</summary>
#
# Those with `x >= W`, and those with `y >= H`. `return;` ends a thread.
#
# </details>
# <details><summary>Hint: the three colours</summary>
#
# The planes begin at 0, `H * W` and `2 * H * W`. With `int p = y * W + x;` red is `image[p]`.
#
# </details>

# %% exercise="grey"
grey = cuda_kernel("""
__global__ void grey(const float* image, float* out, int H, int W) {
  // >>> column and row of this thread; nothing to do outside; the mean of the three planes
  int x = blockIdx.x * blockDim.x + threadIdx.x;
  int y = blockIdx.y * blockDim.y + threadIdx.y;
  if (x >= W || y >= H) return;
  int p = y * W + x;
  out[p] = (image[p] + image[H * W + p] + image[2 * H * W + p]) / 3;
  // <<<
}
""")

# %% check="grey"
check_grey(grey)

# %% [markdown]
# How many blocks? Enough that the grid covers the picture: width over block width, rounded *up*. Rounding down would
# leave a strip without threads, and no error would tell you.

# %%
_, H, W = photo.shape
grey_photo = torch.zeros(H, W)
block = (32, 4)
blocks = (-(-W // block[0]), -(-H // block[1]))
print("blocks", blocks, "=", blocks[0] * block[0], "x", blocks[1] * block[1], "threads")
print("pixels", (W, H))
grey(blocks, block, photo, grey_photo, H, W)

# %% tags=["hide"]
from dyhead_book.c04_the_cuda_kernel.memory_figures import grey_figure

figure = grey_figure(photo, grey_photo)
Picture(figure, alt="The photograph of a motorcycle in a workshop, in colour and in grey.")

# %% [markdown]
# ## Reading between the pixels
#
# A deformable convolution reads at places that are no pixels. [Chapter 03](03_deformable_convolution.ipynb) derived
# the formula: four pixels around the place, each weighing one minus its distance, in $y$ times in $x$; a pixel
# outside counts as zero.
#
# <img src="diagrams/bilinear_sample.svg" alt="A sample between pixels: it lies 0.3 below and 0.6 right of the
# first of four pixels. Each of the four weighs the area of the rectangle opposite to it: 0.28, 0.42, 0.12 and
# 0.18.">
#
# A function that kernels call is marked `__device__`. Ours takes one number more than you expect: `step`, the distance
# in memory from a pixel to its right neighbour. For a plane that is 1; another value will make the kernel several
# times cheaper later. Mind three things: places can be negative, so round down with `floorf`; each of the four pixels
# can lie outside on its own; and the emulator does not report every wrong column, because column $-1$ of a row is
# the last pixel of the row before.

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 2 of 5, about 15 minutes.
#
# <details><summary>Hint: where to begin</summary>
#
# `int top = floorf(y), left = floorf(x);` Then the four pixels are rows `top`, `top + 1` and columns `left`,
# `left + 1`.
#
# </details>
# <details><summary>Hint: one loop</summary>
#
# `for (int q = 0; q < 4; ++q)` with row `top + q / 2` and column `left + q % 2`. `continue` skips a pixel outside.
#
# </details>
# <details><summary>Hint: the weight</summary>
#
# `(1 - fabsf(y - row)) * (1 - fabsf(x - column))`, times `plane[(row * W + column) * step]`.
#
# </details>

# %% exercise="sample"
BILINEAR = """
__device__ float bilinear(const float* plane, int step, int H, int W, float y, float x) {
  // >>> four pixels around (y, x), each with its weight; those outside are left out
  int top = floorf(y), left = floorf(x);
  float sum = 0;
  for (int q = 0; q < 4; ++q) {
    int row = top + q / 2, column = left + q % 2;
    if (row < 0 || row >= H || column < 0 || column >= W) continue;
    sum += (1 - fabsf(y - row)) * (1 - fabsf(x - column)) * plane[(row * W + column) * step];
  }
  return sum;
  // <<<
}
"""
sample = cuda_kernel(
    BILINEAR
    + """
__global__ void sample(const float* plane, const float* y, const float* x, float* out,
                       int H, int W, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) out[i] = bilinear(plane, 1, H, W, y[i], x[i]);
}
"""
)

# %% check="sample"
check_sample(sample)

# %% [markdown]
# ## One thread, one output: deformable convolution
#
# Now the whole operator, with 3 x 3 taps, stride 1 and padding 1:
#
# $$\text{out}[b, o, p] = \sum_{k=0}^{8} \sum_{c} w[o, c, k] \; m[b, k, p] \;
# x\big[b, c,\; p + p_k + \Delta p_k\big]$$
#
# The loops over $b$, $o$ and $p$ become the grid; those over taps and channels stay inside a thread. A thread has a
# single number $i$, and must find out which output is its own. In (B, Co, H, W) the pixel runs fastest: with $S = HW$
# it is $i \bmod S$. What is left, $i$ divided by $S$, counts output channels through all images.
#
# <img src="diagrams/thread_to_output.svg" alt="From the number of a thread to its output. Block 1 of 64
# threads, thread 11, is number 75. With 20 pixels and 3 output channels: pixel 75 mod 20 = 15; 75 / 20 = 3
# channels lie before it, so channel 3 mod 3 = 0 of image 3 / 3 = 1.">
#
# The sum lives in a local variable, that is in a register of the thread. Only the finished sum is written.

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 3 of 5, about 20 minutes.
#
# <details><summary>Hint: who am I?</summary>
#
# `int p = i % S, o = i / S % Co, b = i / S / Co;`
#
# </details>
# <details><summary>Hint: where does a tap read?</summary>
#
# Row `p / W + k / 3 - 1 + dy`, column `p % W + k % 3 - 1 + dx`. The offsets come in pairs: `dy` is
# `offset[(b * 18 + 2 * k) * S + p]`, `dx` one channel further.
#
# </details>
# <details><summary>Hint: the sum</summary>
#
# For each tap and channel `weight[(o * C + c) * 9 + k] * mask[(b * 9 + k) * S + p]` times
# `bilinear(in + (b * C + c) * S, 1, H, W, y, x)`.
#
# </details>

# %% exercise="deform_conv"
deform_conv = cuda_kernel(
    BILINEAR
    + """
__global__ void deform_conv(const float* in, const float* offset, const float* mask,
    const float* weight, float* out, int C, int Co, int H, int W, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int S = H * W;
  float sum = 0;
  // >>> split i into b, o and p; then for each tap where it reads, and the sum over channels
  int p = i % S, o = i / S % Co, b = i / S / Co;
  for (int k = 0; k < 9; ++k) {
    float dy = offset[(b * 18 + 2 * k) * S + p];
    float dx = offset[(b * 18 + 2 * k + 1) * S + p];
    float y = p / W + k / 3 - 1 + dy, x = p % W + k % 3 - 1 + dx;
    for (int c = 0; c < C; ++c)
      sum += weight[(o * C + c) * 9 + k] * mask[(b * 9 + k) * S + p]
             * bilinear(in + (b * C + c) * S, 1, H, W, y, x);
  }
  // <<<
  out[i] = sum;
}
"""
)

# %% check="deform_conv"
check_deform_conv(deform_conv)

# %% [markdown]
# That is the plainest form of the kernel. The project keeps one like it in `csrc/deform_conv/simple.cuh`, for every
# shape, stride, group and number type. Compare; the letters are the same.

# %% tags=["hide"]
kernel_source("forward_simple")

# %% [markdown]
# ### One thread, step by step
#
# `watch` asks the emulator to note what some threads do. We take an input of 5 x 6 pixels with one channel, and follow
# the thread that computes output 14, in row 2 and column 2.


# %%
def draw(C, Co, H, W, spread):
    """input, offset up to `spread` pixels, mask, weight of a 3x3 convolution from C to Co."""
    shapes = (1, C, H, W), (1, 18, H, W), (1, 9, H, W), (Co, C, 3, 3)
    x, offset, mask, weight = (torch.rand(*shape, generator=random) for shape in shapes)
    return x, (2 * offset - 1) * spread, mask, weight - 0.5


x, offset, mask, weight = draw(1, 1, 5, 6, spread=1.5)
out = torch.zeros(1, 1, 5, 6)
sizes = 1, 1, 5, 6, out.numel()
launch = deform_conv(1, 32, x, offset, mask, weight, out, *sizes, watch=(0, range(14, 15)))
for step in launch.steps[:8]:
    print(f"{step.operation:5} {step.buffer}[{step.index}] = {step.value:.3f}")

# %%
MemorySteps(launch.steps, shapes={"in": (5, 6), "out": (5, 6)})

# %% [markdown]
# The four reads of a tap form a small square, the four pixels of bilinear interpolation. Near the border some are
# missing: a pixel outside is not read. The only write comes at the very end.
#
# ## What a warp moves
#
# Thirty-two threads of a warp do a step together, and their reads become one *request*. What it costs is the number of
# different sectors, not the number of threads. The next function counts them, as the emulator does for every request.

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 2 of 5, about 10 minutes.
#
# <details><summary>Hint: which sector holds an element?</summary>
#
# Its first byte is `element * element_bytes`, and sectors begin at multiples of 32.
#
# </details>
# <details><summary>Hint: the number is too large</summary>
#
# Lanes that read from the same sector share it: count different sectors.
#
# </details>


# %% exercise="sectors"
def sectors_of(elements, element_bytes):
    """How many sectors of 32 bytes hold these elements; the first begins where a sector begins."""
    # >>> the sector of each element, and how many different ones there are
    return len({int(element) * element_bytes // 32 for element in elements})
    # <<<


# %% check="sectors"
check_sectors(sectors_of)

# %%
neighbours = torch.arange(32)
print("32 neighbouring floats:          ", sectors_of(neighbours, 4), "sectors")
print("the same, from element 3 on:     ", sectors_of(neighbours + 3, 4), "sectors")
print("every eighth float, or scattered:", sectors_of(8 * neighbours, 4), "sectors")

# %% [markdown]
# Reads of neighbours are called *coalesced*. At worst each of the 32 threads needs a sector of its own: 32 sectors
# instead of 4, **eight times** the traffic. You may read of a factor of 32, with whole lines of 128 bytes. That was
# true of older GPUs; since compute capability 6 (Pascal, 2016) global memory moves
# [in sectors of 32 bytes](https://docs.nvidia.com/cuda/cuda-c-best-practices-guide/#coalesced-access-to-global-memory),
# so that scattered floats cost 8 times. For doubles the worst is 4 times, for 16-bit numbers 16 times.
#
# And deformable convolution? Each thread reads where its offset sends it. This kernel reads samples of all channels as
# `deform_conv` does: neighbouring threads take neighbouring points.

# %%
gather = cuda_kernel(
    BILINEAR
    + """
__global__ void gather(const float* in, const float* y, const float* x, float* out,
                       int C, int H, int W, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int points = n / C;
  int point = i % points, c = i / points;
  out[i] = bilinear(in + c * H * W, 1, H, W, y[point], x[point]);
}
"""
)

C, H, W = 32, 32, 32
features = torch.rand(C, H, W, generator=random)
rows, columns = torch.meshgrid(torch.arange(12.0, 20.0), torch.arange(32.0), indexing="ij")


def points(spread):
    """A point for each pixel of rows 12 to 19, moved by up to `spread` pixels in y and in x."""
    move = (2 * torch.rand(2, 8, 32, generator=random) - 1) * spread
    return (rows + move[0]).flatten(), (columns + move[1]).flatten()


# %%
before, warps = {}, {}
for spread in (0, 1, 4):
    y, x = points(spread)
    out = torch.zeros(C, len(y))
    n, warp = out.numel(), (0, range(32))
    before[spread] = gather(n // 256, 256, features, y, x, out, C, H, W, n, watch=warp)
    each = before[spread].sectors("in") / before[spread].requests("in")
    right = torch.allclose(out, formula.bilinear(features, y, x), atol=1e-6)
    print(f"offsets up to {spread} px: {each:5.1f} sectors a read; equal to the formula: {right}")
    warps[f"offsets up to {spread} px"] = instructions(before[spread].steps, "in")

# %%
sectors_each = before[4].sectors("in") / before[4].requests("in")
answer = "a" if sectors_each < 8.5 else "b" if sectors_each < 16.5 else "c"
scattered.revisit(answer, f"{sectors_each:.1f} sectors for each read, where 4 would be enough.")

# %% tags=["hide"]
figure = warp_figure(warps)
Picture(figure, alt="What 32 lanes read at once: the larger the offsets, the more sectors.")

# %% [markdown]
# Each dot is a thread of one warp and the element that it reads; each band is a sector that has to be fetched for this
# one step. (Even without offsets some reads take five sectors: the right one of the four pixels begins one element
# further.) Learned offsets are smoother than these random ones, so a trained detector lies between the extremes.
# Caches help too: a sector that another request fetched a moment ago may still be there. The emulator models no
# cache. It counts what is *asked for*, which the load units have to work off in any case.
#
# ## Coalesced, whatever the offsets are
#
# We cannot choose the offsets, but we can choose who reads what. All channels of a sample are read at the *same*
# place. If the channels are neighbours in memory, (H, W, C) instead of (C, H, W), and neighbouring *threads* take
# neighbouring *channels*, a warp reads 32 neighbouring floats, wherever the point lies.
#
# <img src="diagrams/who_reads_what.svg" alt="Two ways to share samples among the threads of a warp. Above,
# channels first: neighbouring threads take neighbouring points, and read scattered places of one plane, a
# sector each. Below, channels last: neighbouring threads take neighbouring channels of one point, and read side
# by side, 8 of them from one sector.">
#
# Rewrite the kernel that way. In (H, W, C) channel $c$ begins at `in + c`, and from a pixel to its neighbour it is `C`
# elements: now `step` is needed. The result is (points, C).

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 2 of 5, about 10 minutes.
#
# <details><summary>Hint: who am I now?</summary>
#
# The channel runs fastest: `int c = i % C, point = i / C;`
#
# </details>
# <details><summary>Hint: the call</summary>
#
# `bilinear(in + c, C, H, W, y[point], x[point])`
#
# </details>

# %% exercise="gather_last"
gather_last = cuda_kernel(
    BILINEAR
    + """
__global__ void gather_last(const float* in, const float* y, const float* x, float* out,
                            int C, int H, int W, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  // >>> the channel runs fastest; in is (H, W, C), out is (points, C)
  int c = i % C, point = i / C;
  out[i] = bilinear(in + c, C, H, W, y[point], x[point]);
  // <<<
}
"""
)

# %% check="gather_last"
check_gather(gather_last)

# %%
after = {}
features_last = features.permute(1, 2, 0).contiguous()
for spread in (0, 1, 4):
    y, x = points(spread)
    out = torch.zeros(len(y), C)
    after[spread] = gather_last(n // 256, 256, features_last, y, x, out, C, H, W, n)
    each = after[spread].sectors("in") / after[spread].requests("in")
    print(f"offsets up to {spread} px: {each:5.1f} sectors a read")

# %% tags=["hide"]
bars = {"neighbouring points": before, "neighbouring channels": after}
titled = {}
for who, launches in bars.items():
    titled |= {f"{who}, {spread} px": launch for spread, launch in launches.items()}
figure = traffic_figure(titled, "in")
Picture(figure, alt="Bytes used and moved: points waste more and more, channels nothing.")

# %% [markdown]
# Four sectors a read, for every offset, and the same numbers in another order. This is why fast kernels of deformable
# operators keep channels together, as PyTorch's `channels_last` does.
#
# **Break it.** The mistake is easily made in the other direction. Somebody lets neighbouring threads compute
# neighbouring channels, and leaves the result as (C, points):

# %%
wrong = gather.text.replace("point = i % points, c = i / points", "c = i % C, point = i / C")
strided = cuda_kernel(wrong.replace("out[i]", "out[c * points + point]"))
y, x = points(1)
out = torch.zeros(C, len(y))
wrong_way = strided(n // 256, 256, features, y, x, out, C, H, W, n)
print("right:", torch.allclose(out, formula.bilinear(features, y, x), atol=1e-6))
for name, launch in (("(points, C)", after[1]), ("(C, points)", wrong_way)):
    print(name, launch.sectors("out"), "sectors written,", launch.bytes_used("out"), "bytes used")

# %% [markdown]
# The result is right, and the writes move eight times as much. No test of numbers would ever notice; a count or a
# stopwatch does.
#
# ## Shared memory
#
# A second waste is left: threads read what their neighbours read as well. Take a blur, the mean of three neighbours.
# Thread $i$ reads elements $i-1$, $i$ and $i+1$; so each element is read three times. The threads of a block can do
# better. They have a small memory in common, *shared memory*: about 100 kilobytes, near the arithmetic units and about
# ten times faster to reach than global memory. It is declared in the kernel with `__shared__`, and lives as long
# as the block. The pattern is always the same:
#
# 1. together, the threads bring a *tile* from global to shared memory, each element once;
# 2. they wait for each other: `__syncthreads()`;
# 3. each computes from the tile.
#
# <img src="diagrams/tile_with_halo.svg" alt="A tile in shared memory. Each of the eight threads of a block
# brings its own element from global memory, the first and the last one also the neighbour beside the block. All
# wait at the barrier. Then each thread reads three elements of the tile and writes their mean.">
#
# The wait is necessary. The threads of a block do *not* run in step; only warps used to, and since Volta (2017) not
# even they are bound to. At the *barrier* `__syncthreads()` each thread stops until all threads of its block are there.
# Hence a rule that is often broken: **every** thread of the block must come to it. A guard `if (i >= n) return;` above
# a barrier is wrong.

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 3 of 5, about 20 minutes.
#
# <details><summary>Hint: who brings what?</summary>
#
# Thread `t` brings `x[i]` to `tile[t + 1]`. The first thread also brings `x[i - 1]` to `tile[0]`, the last one
# `x[i + 1]` to `tile[t + 2]`. What lies outside of `x` is zero.
#
# </details>
# <details><summary>Hint: where does the guard go?</summary>
#
# Around the reads (`i < n ? x[i] : 0`) and around the write, not around the barrier.
#
# </details>
# <details><summary>Hint: after the barrier</summary>
#
# `if (i < n) out[i] = (tile[t] + tile[t + 1] + tile[t + 2]) / 3;`
#
# </details>

# %% exercise="blur"
blur = cuda_kernel("""
__global__ void blur(const float* x, float* out, int n) {
  __shared__ float tile[130];  // up to 128 threads, and a neighbour on each side
  int t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
  // >>> bring the tile with its two neighbours, wait, write the mean of three
  tile[t + 1] = i < n ? x[i] : 0;
  if (t == 0) tile[0] = i > 0 ? x[i - 1] : 0;
  if (t == blockDim.x - 1) tile[t + 2] = i + 1 < n ? x[i + 1] : 0;
  __syncthreads();
  if (i < n) out[i] = (tile[t] + tile[t + 1] + tile[t + 2]) / 3;
  // <<<
}
""")

# %% check="blur"
check_blur(blur)

# %% [markdown]
# **Break it.** Without the barrier:

# %%
hasty = cuda_kernel(blur.text.replace("__syncthreads();", ""))
row = grey_photo.flatten().contiguous()
out = torch.zeros_like(row)
told(lambda: hasty(-(-len(row) // 128), 128, row, out, len(row)))

# %% [markdown]
# That is a *race*: what the reader finds depends on who was faster. On a GPU this kernel may give the right numbers a
# thousand times, and wrong ones on another model or under load. The emulator does not wait for that to happen: it
# remembers who touched each element since the last barrier, and reports the pair. (On a GPU NVIDIA's
# [`compute-sanitizer --tool racecheck`](https://docs.nvidia.com/compute-sanitizer/ComputeSanitizer/) does the same.)
# And with a thread that leaves early:

# %%
early = blur.text.replace("__syncthreads();", "if (i >= n) return;\n  __syncthreads();")
told(lambda: cuda_kernel(early)(-(-len(row) // 128), 128, row, out, len(row)))

# %% [markdown]
# ## Everything together
#
# How much does `deform_conv` move? Here it is with 32 channels, on 12 x 12 pixels with offsets of up to 2.

# %%
C, H, W = 32, 12, 12
S = H * W
x, offset, mask, weight = draw(C, C, H, W, spread=2)
expected = formula.deform_conv2d(x, offset, weight, None, (1, 1), (1, 1), (1, 1), mask)
out = torch.zeros(1, C, H, W)
one_each = deform_conv(C * S // 256, 256, x, offset, mask, weight, out, C, C, H, W, C * S)
print(f"largest difference to the formula: {float((out - expected).abs().max()):.0e}")
print(f"the input has {4 * C * S:,} bytes; {one_each.bytes_moved('in'):,} were moved for it")
one_each

# %% [markdown]
# More than 3,000 times its size. Three things multiply: nine taps of four pixels each; sectors of which less than a
# third is used; and **each output channel samples anew**, 32 times the same samples. So let a block own a
# few pixels and *all* output channels. Tap by tap, its threads bring the samples of these pixels to shared memory,
# coalesced, wait, and then every thread adds up its own output channel from them.

# %%
shared_conv = cuda_kernel(BILINEAR + """
const int C = 32, P = 8;  // channels in and out, which are the threads; pixels of a block
__global__ void shared_conv(const float* in, const float* offset, const float* mask,
                            const float* weight, float* out, int H, int W) {
  __shared__ float samples[P][C];
  int t = threadIdx.x, S = H * W, first = blockIdx.x * P;
  float sum[P] = {0};
  for (int k = 0; k < 9; ++k) {
    for (int j = 0; j < P; ++j) {  // here thread t is an input channel
      int p = min(first + j, S - 1);
      float y = p / W + k / 3 - 1 + offset[2 * k * S + p];
      float x = p % W + k % 3 - 1 + offset[(2 * k + 1) * S + p];
      samples[j][t] = mask[k * S + p] * bilinear(in + t, C, H, W, y, x);
    }
    __syncthreads();
    for (int c = 0; c < C; ++c) {  // and here an output channel
      float w = weight[(k * C + c) * C + t];
      for (int j = 0; j < P; ++j) sum[j] += w * samples[j][c];
    }
    __syncthreads();
  }
  for (int j = 0; j < P; ++j)
    if (first + j < S) out[(first + j) * C + t] = sum[j];
}""")

# %% [markdown]
# The input is (H, W, C), the weight (taps, C, Co), the output (pixels, Co): in each the letter of the thread runs
# fastest. There are two barriers. The first lets nobody read samples that are not there yet. The second lets nobody
# overwrite samples that others still need; it is the one that gets forgotten.

# %%
x_last = x[0].permute(1, 2, 0).contiguous()
weight_last = weight.permute(2, 3, 1, 0).contiguous()
out_last = torch.zeros(S, C)
tensors = x_last, offset, mask, weight_last, out_last
together = shared_conv(S // 8, C, *tensors, H, W)
off = (out_last.T.reshape(1, C, H, W) - expected).abs().max()
print(f"largest difference to the formula: {float(off):.0e}")
print(f"input: {one_each.bytes_moved('in'):,} bytes before, {together.bytes_moved('in'):,} now")
print(f"all:   {one_each.bytes_moved():,} bytes before, {together.bytes_moved():,} now")
together

# %%
one_barrier = shared_conv.text.rsplit("    __syncthreads();\n", 1)
told(lambda: cuda_kernel("".join(one_barrier))(S // 8, C, *tensors, H, W))

# %% tags=["hide"]
figure = traffic_figure({"a thread an output": one_each, "samples in shared memory": together})
Picture(figure, alt="Bytes used and moved by both kernels: shared memory leaves a small part.")

# %% [markdown]
# The inner sum over channels is a product of two matrices, samples times weights. The fast kernels of
# `csrc/deform_conv` go on from here: a thread moves 16 bytes in one instruction, and the *tensor cores* of the GPU do
# the product. [Chapter 16](16_kernel_race.ipynb) asks how fast that can be.
#
# They have two tiles in shared memory. While the threads multiply what lies in one, they fill the other, and then the
# two change places. So one barrier a step is enough, and it is needed. `left_out` runs the library's own kernel
# without it; the emulator's debug build watches bytes, since this kernel keeps numbers of several types in one memory.


# %%
from dyhead_lab.ops import emulator, native


def fast_conv(x, offset, weight, mask):
    """The library's fast kernel, in the emulator's debug build."""
    stride, padding, dilation, groups = (1, 1), (1, 1), (1, 1), (1, 1)
    settings = *stride, *padding, *dilation, *groups, "fast", False
    return native.debug_operators().deform_conv2d_forward(x, offset, weight, mask, *settings)


FAST_KERNEL = "deform_conv/fast_forward.cuh"
try:
    off = (fast_conv(x, offset, weight, mask) - expected).abs().max()
    print(f"largest difference to the formula: {float(off):.0e}")
    for line in emulator.barriers(FAST_KERNEL):
        with emulator.left_out(FAST_KERNEL, line):
            fast_conv(x, offset, weight, mask)
except RuntimeError as error:
    print(wrapped(str(error)))

# %% [markdown]
# The message names the kernel, the block, both threads, and the bytes of `shared`, as this kernel calls its shared
# memory. Thread 4 stores 16 bytes of samples for a later step into a place from which thread 1 has read for the
# product of an earlier one. Nothing made thread 4 wait until everybody had read. The project's tests leave out each
# barrier of each fast kernel in turn: a race is found each time.
#
# ## The shipped detector runs on your kernel
#
# A matrix product is not worth writing by hand; PyTorch has it. So here is a complete deformable convolution in three
# steps: where the taps read (the formula), your `gather_last`, and one product. quickstart, the small detector that
# comes with the book, runs on it, and must find the same boxes as on the library's.


# %%
def kernel_conv(
    module, x, offset, weight, bias=None, *, stride=1, padding=0, dilation=1, mask=None
):
    """A deformable convolution of 3x3 taps, sampled by the reader's kernel."""
    C, H, W = x.shape[1:]
    twice = [(n, n) for n in (stride, padding, dilation)]
    y, x_at = formula.tap_positions(offset, (3, 3), *twice)  # (B, 1, 9, Ho, Wo)
    results = []
    for image, rows, columns, own in zip(x, y, x_at, mask, strict=True):
        samples = torch.zeros(rows.numel(), C)
        last = image.permute(1, 2, 0).contiguous()
        places = rows.flatten().contiguous(), columns.flatten().contiguous()
        n = samples.numel()
        gather_last(-(-n // 256), 256, last, *places, samples, C, H, W, n)
        samples = samples.view(9, -1, C) * own.flatten(1)[:, :, None]
        results.append(torch.einsum("kpc,ock->op", samples, weight.flatten(2)))
    out = torch.stack(results).unflatten(2, y.shape[-2:])
    return out if bias is None else out + bias[:, None, None]


# %% tags=["hide"]
from dyhead_lab.data.shapes import draw_image
from dyhead_lab.ops.cuda_text import why_no_emulator

small = torch.from_numpy(draw_image(2026, 0)[0]).permute(2, 0, 1) / 255
problem = why_no_emulator()  # its launches are too large to be recorded
own = {"traced_deform_conv2d": kernel_conv}
print(problem) if problem else check_rebuilt("quickstart", [small], **own)

# %% [markdown]
# ## The way back: additions that meet
#
# In the forward pass each thread writes its own output. In the backward pass a sample has a gradient, and gives a share
# to each of the four pixels that it read. Other samples read the same pixels, so several threads add to one place.
# `+=` is three steps: read, add, write. Two threads that do it at the same time may lose one of the two additions.

# %%
SCATTER = """
__global__ void scatter(const float* y, const float* x, const float* grad, float* grad_plane,
                        int H, int W, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int top = floorf(y[i]), left = floorf(x[i]);
  for (int q = 0; q < 4; ++q) {
    int row = top + q / 2, column = left + q % 2;
    if (row < 0 || row >= H || column < 0 || column >= W) continue;
    float share = (1 - fabsf(y[i] - row)) * (1 - fabsf(x[i] - column));
    grad_plane[row * W + column] += share * grad[i];
  }
}
"""
H, W = 10, 12
y, x = (torch.rand(120, generator=random) * side for side in (H - 1, W - 1))
places = y, x, torch.ones(120)
told(lambda: cuda_kernel(SCATTER)(4, 32, *places, torch.zeros(H, W), H, W, 120))

# %%
plain = "grad_plane[row * W + column] += share * grad[i];"
atomic = "atomicAdd(&grad_plane[row * W + column], share * grad[i]);"
scatter = cuda_kernel(SCATTER.replace(plain, atomic))
grad_plane = torch.zeros(H, W)
launch = scatter(1, 128, *places, grad_plane, H, W, 120, watch=(0, range(128)))
plane = torch.zeros(1, H, W, requires_grad=True)
formula.bilinear(plane, y, x).sum().backward()
print("equal to autograd:", torch.allclose(grad_plane, plane.grad[0], atol=1e-5))

# %% tags=["hide"]
from dyhead_book.c04_the_cuda_kernel.memory_figures import atomics_figure

figure = atomics_figure(launch.steps, "grad_plane", (H, W))
Picture(figure, alt="How often each pixel of the gradient is added to.")

# %% [markdown]
# `atomicAdd` makes the three steps one. Additions to the same pixel queue up; the figure shows how long the queues are.
# They also arrive in an order that differs from run to run, and sums of floats depend on the order. That is why
# gradients of these operators usually differ in their last digits between runs. After
# `torch.use_deterministic_algorithms(True)` this library takes another way, without atomics, and gives bit-equal
# gradients.
#
# ## On a GPU
#
# The text is CUDA, and NVIDIA's own compiler takes it. NVRTC, the runtime compiler, comes with CUDA builds of PyTorch
# and needs no GPU. It makes PTX, the assembly language that every NVIDIA driver translates for its GPU:

# %%
kernels = [add, grey, sample, deform_conv, gather_last, blur, shared_conv, scatter]


def compiled():
    """How many instructions NVIDIA's compiler makes of each kernel."""
    for kernel in kernels:
        lines = kernel.ptx("compute_80").splitlines()
        count = sum(line[:1] == "\t" and line[-1] == ";" and line[1] != "." for line in lines)
        print(f"{kernel.signature.name:12} {count:4} instructions of PTX")


told(compiled)

# %% [markdown]
# With tensors on a GPU the same call runs there. A GPU forgives nothing: after an access outside of a tensor the whole
# process has to be restarted. So run a kernel in the emulator first, and then:

# %%
if torch.cuda.is_available():
    on_gpu = [tensor.cuda() for tensor in tensors]
    print(shared_conv(S // 8, C, *on_gpu, 12, 12))
    print(f"difference to the emulator: {float((on_gpu[-1].cpu() - out_last).abs().max()):.0e}")
else:
    print("This machine has no GPU: nothing was run on one.")

# %% [markdown]
# How fast the library's kernels are on a GPU, or that nobody has measured it yet:

# %% tags=["hide"]
print(gpu_report())

# %% [markdown]
# ## A planted bug
#
# Here is a function that counts sectors, with one bug. Ask it what you can count by hand.

# %%
suspect = drill(SECTOR_MISTAKES, 4)
far = torch.tensor([0, 3200])
questions = {"neighbours": neighbours, "not aligned": neighbours + 4, "two far apart": far}
for name, elements in questions.items():
    expected_count, count = sectors_formula(elements.numpy(), 4), suspect(elements.numpy(), 4)
    print(f"{name:14} expected {expected_count}, got {count}")

# %% [markdown]
# When you have a guess, run `check_sectors(suspect)`. The numbers 0 to 6 give seven bugs.

# %%
Challenge(
    "Let a block of `shared_conv` own 16 pixels instead of 8. Which bytes change?",
    difficulty=2,
    minutes=15,
    hints={
        "Where to begin": "Change P in the text, and launch S // 16 blocks. Compare "
        "bytes_moved('in') and bytes_moved('weight').",
        "Why?": "Each block reads the whole weight once.",
    },
    answer="The input stays: each sample is brought once in either case. The weights are halved, "
    "from 663,552 bytes to 331,776, because half as many blocks read them. Fast kernels take 64 "
    "pixels and more, as registers allow.",
)

# %%
Challenge(
    "Store `samples` as [C][P] instead of [P][C], and explain the passes that the table counts",
    difficulty=3,
    minutes=20,
    hints={
        "Banks": "Shared memory has 32 banks of 4-byte words. Lanes whose words lie in the same "
        "bank wait for each other, unless they read the same word.",
        "Count": "With [C][P] lane t writes word 8 t + j. Which banks are these?",
    },
    answer="Word 8 t + j lies in bank (8 t + j) % 32: four banks for 32 lanes, so each write takes "
    "8 passes instead of one. The reads stay at one pass: all lanes read the same word. A row of "
    "P + 1 words mends the writes.",
)

# %% [markdown]
# ## Recap
#
# - A kernel is the body of the loops; the outer loops become threads, and each needs its number and a guard.
# - A warp's request costs its different sectors of 32 bytes: 4 where neighbours read neighbours, up to 32 otherwise.
# - Offsets scatter reads. With channels last and a channel a thread, reads are coalesced whatever the offsets are.
# - What many threads of a block need is brought to shared memory once, with a barrier that all of them reach before it
#   is read, and another before it is overwritten.
# - Where threads add to the same place, the addition must be atomic.
#
# **Check yourself.**
#
# <details><summary>Why are atomics not needed in the kernel that computes the gradient of the offsets?</summary>
#
# Each offset belongs to one tap of one pixel. A thread that owns it sums over the channels by itself, and nobody else
# writes there.
#
# </details>
# <details><summary>A kernel reads every second float. How much more does it move than it uses?</summary>
#
# Twice: half of each sector is not asked for.
#
# </details>
# <details><summary>Would a barrier between blocks help where two blocks write the same element?</summary>
#
# An ordinary launch has no such barrier: its blocks may run one after the other, in any order. Split the work into two
# launches, or use atomics. (A *cooperative* launch has one, `grid.sync()`, but only if all its blocks fit on the GPU
# at the same time.)
#
# </details>
# <details><summary>Why does a race not show in the tests of a kernel?</summary>
#
# A test sees one order of events, and mostly the same one. A race is a statement about all orders.
#
# </details>

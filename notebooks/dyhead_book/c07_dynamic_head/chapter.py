# %% [markdown]
# # Dynamic Head
#
# | | |
# | --- | --- |
# | Time | 90 to 120 minutes with the exercises, about 3 minutes to run on 2 CPU cores (a GPU changes nothing) |
# | Memory | under 2 GB, none on a GPU |
# | Needs | chapters [02](02_scale_aware.ipynb), [05](05_spatial_aware.ipynb), [06](06_task_aware.ipynb) |
# | You will build | the block of the Dynamic Head in both published forms, the head, and a training of it |
#
# A detector's *head* reads the feature pyramid and says what is where. For years it was a tower of plain convolutions,
# improved in one direction at a time: levels that talk to each other, because objects come in all sizes; convolutions
# that sample where the object is, because they come in all shapes; channels that specialise, because classes and boxes
# ask for different things. [Dynamic Head](https://arxiv.org/abs/2106.08322) (Dai et al., CVPR 2021) does the three in
# one block, and stacks the block.
#
# You have the three parts. Here you put them together, as the [released code](https://github.com/microsoft/DynamicHead)
# does and as the paper's equations do, which is not the same. Then you train the head, and ask what each part is worth.

# %% tags=["hide"]
import os

import torch
import torch.nn.functional as F
from torch import nn

from dyhead_book.c07_dynamic_head.block_checks import BLOCK_MISTAKES, check_block, check_head
from dyhead_book.c07_dynamic_head.cost_checks import check_block_macs
from dyhead_book.c07_dynamic_head.factorial_checks import check_paired_differences
from dyhead_book.c07_dynamic_head.paper_checks import check_join, check_paper_block, check_skip
from dyhead_book.practice.drawn_shapes import DrawnShapes, shapes_ap
from dyhead_book.practice.drills import drill
from dyhead_book.practice.exercises import Challenge
from dyhead_book.practice.predictions import Question
from dyhead_book.practice.rebuilt import check_rebuilt, check_same_ap, rebuilt
from dyhead_book.practice.so_far import so_far
from dyhead_lab.views.figures import Picture
from dyhead_lab.zoo import load_trained

LEVELS = ["P3", "P4", "P5", "P6"]
FAST = "DYHEAD_FAST" in os.environ  # the tests of this book train for a handful of steps

# %% [markdown]
# ## Predict

# %%
missed = Question(
    "07 which attention is missed most",
    "Switched off in the trained quickstart detector, which attention costs most AP?",
    L="scale-aware",
    S="spatial-aware",
    C="task-aware",
)
missed.ask()

# %%
scale_adds = Question(
    "07 what scale-aware attention adds",
    "Heads were trained with and without each attention, three seeds each. Taken over all pairs "
    "that differ in scale-aware attention alone, what does it add to AP?",
    a="more than 0.01",
    b="nothing that one could see",
    c="it takes more than 0.01 away",
)
scale_adds.ask()

# %% [markdown]
# ## Why three attentions, and not one
#
# Resize all levels of a pyramid to one size and stack them: a tensor $F$ with $L$ levels, $S = H \times W$ positions
# and $C$ channels. The plainest attention gives every number of $F$ a gate that sees every other number (equation 1 of
# the paper):
#
# $$W(F) = \pi(F) \cdot F$$
#
# Let $\pi$ be a fully connected layer and a sigmoid. That is hopeless: the layer has $(LSC)^2$ weights, one for each
# pair of numbers. Compare with a block of the Dynamic Head:

# %%
from dyhead_lab.attention import PaperDyHeadBlock as LibraryPaperBlock

L, C = 3, 16
own = sum(p.numel() for p in LibraryPaperBlock(C, L).parameters())
for side in (4, 8, 16):
    S = side * side
    print(f"{S:4} positions: undecoupled {(L * S * C) ** 2:12,} weights, block {own:,}")
weights = (5 * 25 * 42 * 256) ** 2  # P3 to P7 at the median size of an image of 800 x 1333 pixels
print(
    f"at the size of a real pyramid: {weights:.1e} weights, {4 * weights / 1e12:.1f} TB in float32"
)

# %% [markdown]
# The Dynamic Head takes the one attention apart into three, each along one axis, one after the other (equation 2):
#
# $$W(F) = \pi_C\big(\pi_S(\pi_L(F) \cdot F) \cdot F\big) \cdot F$$
#
# That is a choice, not a theorem: no step looks along two axes at once. What is lost by it is the question of
# [chapter 17](17_write_your_own_attention.ipynb).
#
# ## Build: the released block
#
# <img src="diagrams/released_block.svg" alt="One level of a released block. A 3x3 convolution on the level
# itself predicts 18 offsets and 9 masks, which steer three deformable convolutions: of the finer neighbour with
# stride 2, of the level itself, and of the coarser neighbour, whose result is enlarged. Each result is
# normalised, a gate between 0.5 and 1 weighs it, and their mean passes the task-aware activation.">
#
# The released code never builds the tensor $F$. It keeps the pyramid, every level at its own size, and lets a level
# meet its two neighbours. Take the parts of the earlier chapters, your own where the workbook has kept them (the
# spatial part is the library's, because its offsets will be switched off below), and walk one level through by hand.
# The pyramid comes from `quickstart`, which looks at a picture of Shapes.

# %%
from dyhead_book.practice.earlier import earlier
from dyhead_lab.attention import SpatialAwareAttention

ScaleAwareAttention = earlier("02_scale_aware", "ScaleAwareAttention")
TaskAwareAttention = earlier("06_task_aware", "TaskAwareAttention")

# %%
trained = load_trained("quickstart")
pictures = DrawnShapes(24)
pyramid = {}  # a hook keeps what the pyramid hands to the head
hook = trained.model.backbone.fpn.register_forward_hook(lambda *seen: pyramid.update(seen[2]))
with torch.no_grad():
    trained.model([pictures.image(1)])
hook.remove()
levels = list(pyramid.values())
for name, level in zip(LEVELS, levels, strict=True):
    print(name, tuple(level.shape))

# %%
C = 64
spatial, scale, task = SpatialAwareAttention(C), ScaleAwareAttention(C), TaskAwareAttention(C)
with torch.no_grad():
    branches = spatial(levels[1], finer=levels[0], coarser=levels[2])  # P4 and its neighbours
    print("after spatial:", *(tuple(branch.shape) for branch in branches))
    fused = scale(branches)
    print("after scale:  ", tuple(fused.shape))
    print("after task:   ", tuple(task(fused).shape))
    print("at the fine end there are", len(spatial(levels[0], coarser=levels[1])), "branches")

# %% [markdown]
# The spatial step brings the neighbours to the level's own size and leaves two or three *branches*; the scale step
# weighs and fuses them into one map; the task step activates it. The block does this for every level with the same
# weights. Two things can go wrong in that loop. The finest level has no finer neighbour, and `levels[-1]` is no error
# in Python. And whoever writes results back into the list of inputs lets a level see a neighbour that has been through
# the block already.
#
# The switches `scale`, `spatial` and `task` are there for the ablation below. "Off" means what a head would do without
# the attention: a plain mean of the branches; plain 3x3 convolutions; ReLU. (The official code has none; these are
# those of [GLIP's copy](https://github.com/microsoft/GLIP).) `extra` is a class for one more attention, for [chapter
# 17](17_write_your_own_attention.ipynb).

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 3 of 5, about 25 minutes.
#
# <details><summary>Where to begin</summary>If there is an extra attention, levels = self.extra(levels). Then loop
# over the levels with their numbers, and collect the results in a new list.</details>
#
# <details><summary>The first level is wrong</summary>levels[l - 1] at l = 0 is the coarsest level. Pass None there,
# and at the coarse end too.</details>
#
# <details><summary>Only cases with a switch off are wrong</summary>Gates of one leave sum(branches) / len(branches).
# Without task-aware attention the map passes ReLU.</details>


# %% exercise="block"
class DyHeadBlock(nn.Module):
    """One released block: for each level spatial-, then scale-, then task-aware attention."""

    def __init__(
        self, channels, offset_fit="centres", scale=True, spatial=True, task=True, extra=None
    ):
        super().__init__()
        self.spatial = SpatialAwareAttention(channels, offset_fit, deformable=spatial)
        self.scale = ScaleAwareAttention(channels) if scale else None
        self.task = TaskAwareAttention(channels) if task else None
        self.extra = extra(channels) if extra else None

    def forward(self, levels):
        """A list of maps (B, C, H, W), fine to coarse, in and out."""
        # >>> first `extra`, where there is one; then each level with its neighbours; a new list
        levels = self.extra(levels) if self.extra else levels
        outputs, finer, coarser = [], [None, *levels[:-1]], [*levels[1:], None]
        for neighbours in zip(levels, finer, coarser, strict=True):
            branches = self.spatial(*neighbours)
            y = self.scale(branches) if self.scale else sum(branches) / len(branches)
            outputs.append(self.task(y) if self.task else y.relu())
        return outputs
        # <<<


# %% check="block"
check_block(DyHeadBlock)

# %% [markdown]
# The stricter test is a detector: rebuilt on your class, `quickstart` must load its trained weights by name and find
# the same boxes.

# %%
check_rebuilt("quickstart", [pictures.image(1)], DyHeadBlock=DyHeadBlock)

# %% [markdown]
# ### How far a level sees
#
# <img src="diagrams/level_reach.svg" alt="Five levels, P3 to P7, from top to bottom, and five columns: the
# pyramid and the outputs of blocks 1 to 4. In every block a level reads itself and its two neighbours. Followed
# back from P3 after block 4, the red lines reach P4 one block earlier, P5 two blocks earlier, and all levels of
# the pyramid.">
#
# A level meets its neighbours and no other, so P3 hears from P7 only after four blocks. The gradient tells whether that
# is so:

# %%
torch.manual_seed(0)
five = [torch.randn(1, 16, size, size, requires_grad=True) for size in (32, 16, 8, 4, 2)]
outputs = five
for depth in range(1, 5):
    outputs = DyHeadBlock(16)(outputs)
    gradients = torch.autograd.grad(
        outputs[0].sum(), five, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    reached = [f"P{3 + l}" for l, g in enumerate(gradients) if g.abs().sum() > 0]
    print(f"P3 after {depth} block(s) depends on {', '.join(reached)}")

# %% [markdown]
# ## Build: the paper's form
#
# <img src="diagrams/paper_block.svg" alt="The paper&#x27;s block. All levels are resized to the median one and
# stacked to a tensor of shape L x S x C. Scale-aware attention weighs levels and keeps the shape. Spatial-aware
# attention samples at K places and sums over the levels. Task-aware attention applies an activation per
# channel.">
#
# People have asked [since 2021](https://github.com/microsoft/DynamicHead/issues/25) why the code does not look like the
# paper. It is another form of the idea. The paper resizes all levels to the size of the median one and stacks them;
# then the equations mean what they say, and all levels meet in every block. Start with the stack. Where a map shrinks,
# take means over the area (`adaptive_avg_pool2d`): a bilinear sample would skip most cells of a large map.

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 2 of 5, about 15 minutes.
#
# <details><summary>Which level is the median?</summary>levels[len(levels) // 2]; of four levels the coarser of the
# two in the middle, because it costs less.</details>
#
# <details><summary>Where is S?</summary>flatten(2) makes (B, C, S) of (B, C, H, W), transpose(1, 2) makes (B, S, C).
# Stack these along axis 1.</details>


# %% exercise="join"
def resized(x, size):
    """A map (B, C, H, W) at another size: means where it shrinks, bilinear where it grows."""
    if x.shape[-2] >= size[0] and x.shape[-1] >= size[1]:
        return F.adaptive_avg_pool2d(x, size)
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def join_levels(levels):
    """All levels as one tensor F (B, L, S, C), and the size (H, W) of the median level."""
    # >>> resize all levels to the median one, flatten, stack
    size = tuple(levels[len(levels) // 2].shape[-2:])
    flat = [resized(x, size).flatten(2).transpose(1, 2) for x in levels]
    return torch.stack(flat, dim=1), size
    # <<<


# %% check="join"
check_join(join_levels)

# %%
F_BLSC, size = join_levels(levels)
print("F:", tuple(F_BLSC.shape), "with S =", size[0], "x", size[1])

# %% [markdown]
# Now the block, in the order of equation 2: one weight for each of the $L$ levels; one deformable convolution over all
# levels; and the network $\theta$, which computes the slopes and shifts of the activation once for the whole tensor.
#
# There is a catch. Equation 4, the spatial step, sums over $l$. Read literally, the level axis is gone behind it, the
# shape is (B, 1, S, C), and a second block has nothing to be scale-aware of. The paper stacks six, so something is
# missing. This library offers the literal reading, `levels="collapse"`, and its own repair, `levels="residual"`: the
# sum is added back to every level. (`depthwise=True` is another literal reading, one number for each level and tap in
# place of a matrix. It concerns the spatial step alone; an experiment below compares it.)

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 2 of 5, about 15 minutes.
#
# <details><summary>Where to begin</summary>Three lines, inside out: weigh the levels, sum them by the spatial step,
# activate.</details>
#
# <details><summary>Only "residual" is wrong</summary>Add the sum to the levels that have been weighed, not to those
# that came in.</details>

# %%
from dyhead_lab.attention import PaperSpatialAwareAttention

PaperScaleAwareAttention = earlier("02_scale_aware", "PaperScaleAwareAttention")
PaperTaskAwareAttention = earlier("06_task_aware", "PaperTaskAwareAttention")


# %% exercise="paper_block"
class PaperDyHeadBlock(nn.Module):
    """Equation 2: scale, then spatial, then task, on one tensor of all levels."""

    def __init__(self, channels, num_levels, levels="residual", depthwise=False,
                 scale=True, spatial=True, task=True):  # fmt: skip
        super().__init__()
        self.levels = levels
        self.scale = PaperScaleAwareAttention(num_levels) if scale else None
        self.spatial = PaperSpatialAwareAttention(channels, num_levels, depthwise, spatial)
        self.task = PaperTaskAwareAttention(channels) if task else None

    def forward(self, F_BLSC, size):
        """(B, L, S, C) with S = H * W of `size`; the same shape, or (B, 1, S, C) on collapse."""
        # >>> weigh the levels; self.spatial(F_BLSC, size) gives their sum (B, 1, S, C); activate
        weighed = self.scale(F_BLSC) if self.scale else F_BLSC
        summed = self.spatial(weighed, size)
        F_BLSC = summed if self.levels == "collapse" else weighed + summed
        return self.task(F_BLSC) if self.task else F_BLSC.relu()
        # <<<


# %% check="paper_block"
check_paper_block(PaperDyHeadBlock)

# %%
with torch.no_grad():
    for kind in ("collapse", "residual"):
        print(f"{kind:8}", tuple(PaperDyHeadBlock(C, 4, levels=kind)(F_BLSC, size).shape))

# %% [markdown]
# ## Build: the head
#
# <img src="diagrams/paper_head.svg" alt="The paper&#x27;s form as a head. Each level of the pyramid, 20 x 20 to
# 3 x 3 cells, is resized to the median level&#x27;s 5 x 5 and stacked. Blocks work on that one tensor. Each
# slice is resized back to its level, and the level that came in is added to it: the skip.">
#
# A head is blocks in a stack, from pyramid to pyramid. In the released form that is a loop. In the paper's form the
# levels are joined before the blocks, and behind them the tensor is cut into maps that go back to the levels' sizes. On
# this way all that is finer than the median level is lost: P3 has 20 x 20 cells here, and what comes back has been
# through 5 x 5. The paper is silent about it. The library adds what came in, $x_l + \mathrm{resize}(y_l)$: a *skip*,
# our choice as the residual is.

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 3 of 5, about 20 minutes.
#
# <details><summary>Where to begin</summary>F_BLSC, size = join_levels(levels), then all blocks, one behind the
# other.</details>
#
# <details><summary>From the tensor to maps</summary>F_BLSC[:, l] is (B, S, C): transpose(1, 2), then unflatten(2,
# size). After a collapse there is one slice for all levels: expand the axis first.</details>
#
# <details><summary>The last step</summary>x + resized(y, x.shape[-2:]) for each level x that came in.</details>


# %% exercise="skip"
def through_one_tensor(blocks, levels):
    """The paper's form from pyramid to pyramid: the maps `levels` in, as many maps out."""
    # >>> join, all blocks, cut into maps, resize back, add the level that came in
    F_BLSC, size = join_levels(levels)
    for block in blocks:
        F_BLSC = block(F_BLSC, size)
    F_BLSC = F_BLSC.expand(-1, len(levels), -1, -1)  # after a collapse, one slice serves all
    maps = [F_BLSC[:, l].transpose(1, 2).unflatten(2, size) for l in range(len(levels))]
    return [x + resized(y, x.shape[-2:]) for x, y in zip(levels, maps, strict=True)]
    # <<<


# %% check="skip"
check_skip(through_one_tensor)

# %% [markdown]
# Call *detail* what is left of P3 when its means over 4 x 4 cells are taken away: the median level cannot hold it. How
# much comes out with the skip, and without?


# %%
def detail(x):
    """Share of the energy of P3 that its means over 4 x 4 cells do not explain."""
    coarse = resized(resized(x, (5, 5)), x.shape[-2:])
    return float((x - coarse).square().sum() / x.square().sum())


with torch.no_grad():
    with_skip = through_one_tensor([PaperDyHeadBlock(C, 4)], levels)[0]
    print(f"detail of P3 as it came in: {detail(levels[0]):.0%}")
    print(f"with the skip {detail(with_skip):.0%}, without {detail(with_skip - levels[0]):.1%}")

# %% [markdown]
# Now the head itself, in both forms, around `DyHeadBlock` and `PaperDyHeadBlock`.

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 2 of 5, about 15 minutes.
#
# <details><summary>Where to begin</summary>levels = list(pyramid.values()) where the pyramid is a dict, else
# list(pyramid).</details>
#
# <details><summary>The released form</summary>levels = block(levels): what one block gives the next one
# takes.</details>
#
# <details><summary>The container</summary>A dict goes out as a dict with the same names: dict(zip(pyramid,
# levels)).</details>


# %% exercise="head"
class DyHead(nn.Module):
    """Blocks in a stack, in either form: a dict or a list of maps, fine to coarse, in and out."""

    def __init__(self, channels, blocks=6, *, form="released", num_levels=None, **options):
        super().__init__()
        self.form = form
        if form == "released":
            made = [DyHeadBlock(channels, **options) for _ in range(blocks)]
        else:  # after a collapse one level is left, and later blocks work on that
            later = 1 if options.get("levels") == "collapse" else num_levels
            counts = [num_levels] + [later] * (blocks - 1)
            made = [PaperDyHeadBlock(channels, count, **options) for count in counts]
        self.blocks = nn.ModuleList(made)

    def forward(self, pyramid):
        # >>> released: block after block; paper: through_one_tensor; the same container back
        levels = list(pyramid.values() if isinstance(pyramid, dict) else pyramid)
        if self.form == "paper":
            levels = through_one_tensor(self.blocks, levels)
        else:
            for block in self.blocks:
                levels = block(levels)
        return dict(zip(pyramid, levels, strict=True)) if isinstance(pyramid, dict) else levels
        # <<<


# %% check="head"
check_head(DyHead)

# %% [markdown]
# ## Check: the whole tower on your classes
#
# `quickstart` is built anew with your `DyHead` and your `DyHeadBlock`, takes its trained weights strictly, and looks at
# 60 pictures that it has never seen. Its AP has to be the library's, to the sixth figure.

# %%
check_same_ap("quickstart", DyHeadBlock=DyHeadBlock, DyHead=DyHead)

# %% [markdown]
# ## Paper and released code, side by side
#
# What shape do the features have after each attention? First the released form, drawn from a trace, with levels of the
# sizes above. Colours are levels, sheets are channels.

# %% tags=["hide"]
from dyhead_book.c07_dynamic_head.tensor_shapes import paper_steps, released_steps, shapes_figure
from dyhead_lab.attention import DyHead as LibraryHead
from dyhead_lab.trace import trace


def run(**form):
    """A trace of one block of that form on the pyramid."""
    with torch.no_grad(), trace(head := LibraryHead(C, blocks=1, **form)) as seen:
        head(levels)
    return seen


figure = shapes_figure(released_steps(levels, run()), LEVELS)
Picture(
    figure,
    alt="Released form: every level keeps its size; between spatial and scale there are 2 or 3 "
    "branches.",
)

# %% [markdown]
# In the paper's form there is one tensor. After a collapse the level axis is gone:

# %% tags=["hide"]
figure = shapes_figure(
    paper_steps(levels, run(form="paper", num_levels=4, levels="collapse")), LEVELS
)
Picture(
    figure,
    alt="Paper's form: all levels at the median size; the spatial step sums over levels and "
    "leaves one.",
)

# %% [markdown]
# With `levels="residual"` the sum is added back to every level, and blocks can be stacked:

# %% tags=["hide"]
figure = shapes_figure(paper_steps(levels, run(form="paper", num_levels=4)), LEVELS)
Picture(
    figure,
    alt="Paper's form, residual: the sum over levels is added to every level, (B, L, S, C) "
    "throughout.",
)

# %% [markdown]
# All differences that we know of, with what the library does where the paper is silent:
#
# | | paper | released code |
# | --- | --- | --- |
# | features | one tensor (B, L, S, C), all levels resized to the median one | the pyramid, each level at its own size |
# | order | scale, spatial, task | spatial, scale, task |
# | levels that meet | all | a level and its two neighbours |
# | scale weights | one per level, from all level means | one per branch, each from its own mean |
# | range of the scale weights | 0 to 1 | 0.5 to 1: a ReLU stands before the hard sigmoid |
# | convolution weights | one matrix per level and tap | three sets: finer, own, coarser; shared by all levels |
# | offsets and masks | from the median level, for all levels | from each level, for itself and its neighbours |
# | sum over levels | removes the level axis; ours adds it back | mean over the branches that are present |
# | back to the pyramid | not said; ours resizes and adds what came in | nothing to do |
# | after the convolution | nothing | GroupNorm with 16 groups |
# | means of task-aware attention | over levels and positions | over the positions of one level |
# | offsets at the start | not said | small random numbers; zero in the library |
# | offsets for the coarser neighbour | always fit | have the wrong size: [05](05_spatial_aware.ipynb) |
# | two-stage detectors | task after RoI pooling | all three before it: [08](08_dynamic_head_on_detectors.ipynb) |
#
# ## It learns
#
# A head that computes the right numbers still has to learn. Take a detector (ATSS, [chapter
# 08](08_dynamic_head_on_detectors.ipynb)) whose backbone and pyramid have learned Shapes and are *frozen*: their
# weights do not change, so only what stands on them is trained. Give it four heads in turn: none, so that the
# *predictors*, the last layers that give scores and boxes, read the pyramid; the towers of four convolutions that ATSS
# has; one block of your head in each form. The predictors start from the same weights, and the batches come in the same
# order.

# %%
from dyhead_lab.detectors.one_stage.frozen_atss import frozen_atss

train_set = DrawnShapes(32 if FAST else 320, seed=1)


def detector(make_head, seed, tower_convs=0):
    torch.manual_seed(seed)
    model = frozen_atss(6, dyhead_blocks=0, tower_convs=tower_convs, min_size=160, max_size=320)
    torch.manual_seed(seed)
    model.backbone.neck = make_head()  # nn.Identity() leaves the pyramid as it is
    return model


heads = {
    "no head": lambda seed: detector(nn.Identity, seed),
    "towers of 4 convolutions": lambda seed: detector(nn.Identity, seed, tower_convs=4),
    "your DyHead, released": lambda seed: detector(lambda: DyHead(C, 1), seed),
    "your DyHead, paper": lambda seed: detector(
        lambda: DyHead(C, 1, form="paper", num_levels=4), seed
    ),
}

# %% [markdown]
# The loop is the plain one. In training mode the detector returns a dict of losses: class, box and centredness.


# %%
def train(model, seed, steps=2 if FAST else 100, batch=8, lr=2e-3):
    """Train what is not frozen; returns the loss of every step."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    generator = torch.Generator().manual_seed(seed)
    model.train()
    losses = []
    for _ in range(steps):
        chosen = torch.randint(len(train_set), (batch,), generator=generator).tolist()
        images, targets = zip(*(train_set[index] for index in chosen), strict=True)
        loss = sum(model(list(images), list(targets)).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return losses


# %%
losses, found, models = {name: [] for name in heads}, {name: [] for name in heads}, {}
for name, build in heads.items():
    for seed in (0,) if FAST else (0, 1):
        models[name] = build(seed)
        losses[name].append(train(models[name], seed))
        found[name].append(shapes_ap(models[name], 10 if FAST else 40))
    learned = sum(p.numel() for p in models[name].parameters() if p.requires_grad)
    values = ", ".join(f"{ap:.3f}" for ap in found[name])
    print(f"{name:25} {learned:8,} weights learned, AP {values}")

# %% tags=["hide"]
from dyhead_book.c07_dynamic_head.training_figures import losses_figure

Picture(
    losses_figure(losses),
    alt="The loss of four heads over the steps: none, towers, the released form and the paper's "
    "form of the Dynamic Head. All fall; how fast each starts differs.",
)

# %% [markdown]
# Every head learns. How a curve starts depends on what stands between the trained pyramid and the predictors: nothing;
# plain convolutions; in the paper's form a skip, which hands the pyramid through; in the released block new
# convolutions and a GroupNorm, through which everything has to pass.
#
# Now compare the order of the last losses with that of AP. They need not agree: in our runs the towers had the lowest
# loss of all four heads and the lowest AP. The loss is a sum over all places, most of them background; AP asks whether
# the best boxes of all pictures come first, and how tightly they fit. So do not compare heads by their loss, nor after
# 800 pictures. Nor are the features neutral ground: they were learned under a released Dynamic Head. To say which head
# is better takes long runs, several seeds, and a rate tuned for each head.
#
# Did the new parts take part? The layer that predicts offsets and masks started at zero, so all that it holds has been
# learned:

# %%
learned = models["your DyHead, released"].backbone.neck.blocks[0]
print("norm of the offset layer:", f"{learned.spatial.offset_mask.weight.detach().norm():.2f}")
with torch.no_grad():
    offsets, masks = learned.spatial.offset_mask(levels[0])
print(
    f"offsets on P3: {offsets.abs().mean():.2f} cells on average, {offsets.abs().max():.1f} at most"
)

# %% [markdown]
# ## What is an attention worth?
#
# There are two ways to ask. The first: switch an attention off in a detector that was trained with it. Run the cell and
# press the buttons. Bright places hold much of the energy (the sum of squares over channels) of their level.

# %% tags=["hide"]
from dyhead_book.c07_dynamic_head.block_features import STEPS, sparsity_figure, traced_features
from dyhead_book.c07_dynamic_head.energy_maps import boxes_and_features_figure
from dyhead_lab.attention.switches import switched
from dyhead_lab.views.switchboard import Switchboard

picture = pictures.image(8)


def show(**on):
    """Boxes and features of the detector with these attentions on."""
    with torch.no_grad(), switched(trained.model, **on), trace(trained.model) as seen:
        [result] = trained.model([picture])
    features = traced_features(seen, "block_output")[0]
    figure = boxes_and_features_figure(picture, result, features, LEVELS, trained.categories)
    off = ", ".join(name for name, is_on in on.items() if not is_on) or "nothing"
    boxes = int((result["scores"] >= 0.5).sum())
    return Picture(figure, alt=f"{boxes} boxes, features of four levels; switched off: {off}.")


Switchboard(show)

# %% [markdown]
# The same as AP, on 60 pictures:

# %%
AP = {}
for off in (None, "scale", "spatial", "task"):
    with switched(trained.model, **{name: name != off for name in ("scale", "spatial", "task")}):
        AP[off] = shapes_ap(trained.model, 10 if FAST else 60)
    print(f"{off or 'nothing':8} off: AP {AP[off]:.3f}")

# %% [markdown]
# This is not what an attention is worth: the other weights have been trained to count on it. That shows when you
# *train* without it.
#
# ### The ablation, trained
#
# `dyhead-lab experiment ablation` trains every combination on Shapes, 1,800 steps a run. To keep that affordable only
# the head learns, on a frozen pyramid that was trained together with all three attentions, which may favour the rows
# that have them. Runs with one seed see the same pictures in the same order. In the recorded result L stands for scale,
# S for spatial, C for task; ± is the standard deviation over three seeds, and square brackets hold the 95 % interval of
# the difference: where the mean over ever more seeds may still come to lie. MMAC are the multiply-adds of the whole
# detector for one picture, in millions.

# %%
from dyhead_lab.experiments.catalogue import recorded

ablation = recorded("ablation")
for row in ablation.rows:
    ap, more = ablation.spread(row, "AP"), ablation.difference(row, "AP")
    low, high = more.interval()
    gain = f"   minus all off: {more.mean:+.3f} [{low:+.3f}, {high:+.3f}]"
    cost = f"{ablation.spread(row, 'MMAC').mean:.0f} MMAC"
    print(f"{row:12}  {cost}  AP {ap.text()}{'' if row == ablation.baseline else gain}")

# %% [markdown]
# The plain towers lead: eight convolutions on every level, which cost four times what the block costs. One block is not
# a rival of their size; what more blocks bring is asked further below.
#
# Look at the row L: a small difference, and a wide interval that holds zero. "So it says nothing" is how such tables
# are usually read, row by row against a baseline. That throws most of the data away. This is a *factorial* experiment:
# every attention is on in four of eight rows, and each of these has a partner that differs in that attention and
# nothing else. L against all off is one such pair; L+S against S, L+C against C and L+S+C against S+C are three more.
# With three seeds that makes twelve paired differences for each attention.

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 2 of 5, about 10 minutes.
#
# <details><summary>What is a row?</summary>ap[frozenset("LS")] is a list: AP of L+S with seeds 0, 1, 2. The row
# without anything is ap[frozenset()].</details>
#
# <details><summary>The partner of a row</summary>row - {letter} is the same set without the letter.</details>
#
# <details><summary>Pairs</summary>zip(ap[row], ap[row - {letter}]) pairs equal seeds. Four rows of three
# seeds: twelve numbers.</details>


# %% exercise="effects"
def paired_differences(ap, letter):
    """ap: frozenset of the letters that are on -> list of AP, one for each seed.

    Returns a list of differences, AP with the attention minus AP without it: one for each row
    that has it and each seed.
    """
    # >>> for every row with this attention: each seed's AP minus that of the row without it
    rows = [row for row in ap if letter in row]
    pairs = [pair for row in rows for pair in zip(ap[row], ap[row - {letter}], strict=True)]
    return [with_it - without for with_it, without in pairs]
    # <<<


# %% check="effects"
check_paired_differences(paired_differences)

# %%
from dyhead_lab.experiments.ablation import factorial_table

ap = factorial_table(ablation)
names = {"L": "scale-aware", "S": "spatial-aware", "C": "task-aware"}
effects = {names[letter]: paired_differences(ap, letter) for letter in names}
for name, differences in effects.items():
    mean, below = sum(differences) / len(differences), sum(d < 0 for d in differences)
    print(f"{name:14} {mean:+.3f}, negative in {below} of {len(differences)} pairs")

# %% tags=["hide"]
from dyhead_book.c07_dynamic_head.training_figures import effects_figure

Picture(
    effects_figure(effects, seeds=len(ablation.seeds)),
    alt="Twelve paired differences of each attention: scale-aware around -0.01, mostly below zero; "
    "spatial-aware around +0.07 and task-aware around +0.02, all above zero.",
)

# %% [markdown]
# ### What scale-aware attention adds
#
# Nothing that one could see, here. Spatial-aware and task-aware attention add to AP in every single pair. Scale-aware
# attention takes a little less than a hundredth, and is below zero in ten of twelve pairs. A fair coin falls so
# unevenly in one of 26 tries, but these are not twelve independent coins: the interval over three seeds just holds
# zero, so it is not proven that it harms. Yet a gain of nearly a hundredth, which the row alone would have allowed, is
# most unlikely.
#
# Does that contradict [chapter 02](02_scale_aware.ipynb), where all gates at one cost AP? No: there the gates are taken
# away from a detector that was trained with them, as by the switches above. Trained without them, the rest learns to do
# without. And the gates have little to say: they weigh a branch between a half and one, and chapter 02 finds that fixed
# gates for each level do as well as gates that follow the image.
#
# The paper reports a gain from each attention alone, the largest from the spatial one, with ATSS on COCO. Ours agrees
# on the largest. For the rest there are reasons enough: small objects drawn by a program, frozen features, one block.
#
# ### A head start, or a better end?
#
# A short training also measures how fast a head starts. AP was taken on the way, so the same differences can be asked
# for earlier:

# %%
for metric in ("AP after 450", "AP after 900", "AP after 1350", "AP"):
    then = factorial_table(ablation, metric)
    means = {names[one]: sum(d := paired_differences(then, one)) / len(d) for one in names}
    print(f"{metric:14}", "  ".join(f"{name} {mean:+.3f}" for name, mean in means.items()))

# %% [markdown]
# What spatial-aware attention adds is there early and stays. Half of what task-aware attention added after 450 steps
# was a head start: the others catch up. Judged then, it would have seemed worth twice as much.
#
# ### The two forms, trained
#
# The same can be asked of the paper's form. `dyhead-lab experiment forms` trains four heads of one block each, for 900
# steps. *released* is the released form. *paper* is the paper's form as you built it, with a $C \times C$ matrix for
# each level and tap. *paper, scalar weights* has a single number in place of each matrix, as equation 4 literally says
# (`depthwise=True`). *paper, spatial first* moves spatial-aware attention to the front, as in the released code.

# %%
forms = recorded("forms")
for row in forms.rows:
    ap, more = forms.spread(row, "AP"), ""
    small, large = (forms.spread(row, size).mean for size in ("AP_small", "AP_large"))
    if row != forms.baseline:
        low, high = (difference := forms.difference(row, "AP")).interval()
        more = f"   minus paper: {difference.mean:+.3f} [{low:+.3f}, {high:+.3f}]"
    print(f"{row:21} AP {ap.text()}, small {small:.3f}, large {large:.3f}{more}")

# %% [markdown]
# The order decides nothing here: its interval holds zero. The matrix is worth its parameters. But the released form has
# twice the AP. Why? The table of differences offers an answer: the paper resizes every level to the median one, which
# on these pictures of 160 pixels is a map of 5 x 5, where P3 alone has 400 cells. Then small objects ought to suffer
# most. They do lose, but large ones lose more. So that is not all of it; no GroupNorm, one set of weights for every
# level, and a pyramid that has learned under the released form remain, and have not been tried one at a time. On COCO
# the median level has 25 x 42 cells. This is no verdict on the paper's numbers.
#
# ## What it costs
#
# The deformable convolutions are nearly everything. A 3x3 convolution from $C$ to $C$ channels takes $9 C^2$
# multiply-adds for a place of its output. One more, from $C$ to 27 channels, predicts the offsets and masks of each
# level.

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 3 of 5, about 15 minutes.
#
# <details><summary>How many convolutions has a level?</summary>One on itself, one from the finer neighbour with
# stride 2, one from the coarser neighbour on the coarser grid, and the one that predicts 27 channels.</details>
#
# <details><summary>The number is too large</summary>The finest level has no finer neighbour, the coarsest no coarser
# one.</details>


# %% exercise="block_macs"
def block_macs(sizes, C):
    """Multiply-adds of the convolutions of one released block; sizes (H, W), fine to coarse."""
    # >>> for each level: itself, its finer and its coarser neighbour, and the 27 channels
    areas = [H * W for H, W in sizes]
    own, finer, coarser = sum(areas), sum(areas[1:]), sum(areas[1:])  # each on the smaller grid
    return 9 * C * C * (own + finer + coarser) + 9 * C * 27 * sum(areas)
    # <<<


# %% check="block_macs"
check_block_macs(block_macs)

# %% [markdown]
# Papers report the cost at 800 x 1333 pixels, on P3 to P7, with 256 channels. How many blocks cost as much as the two
# towers of four convolutions that they replace in ATSS?

# %%
from dyhead_lab.evaluation.dyhead_cost import depth_macs, level_sizes, tower_macs

one, towers = block_macs(level_sizes(), 256), tower_macs()
print(f"one block: {one / 1e9:.2f} GMAC, the towers: {towers / 1e9:.1f} GMAC")

# %% tags=["hide"]
from dyhead_book.figures.head_cost import depth_figure

figure = depth_figure(
    depth_macs((1, 2, 4, 6, 8, 10), offset_fit="flat"), towers, published={6: 21.5}
)
Picture(figure, alt="1 to 4 blocks cost less than the towers, 6 blocks 21.7 GMAC more.")

# %% [markdown]
# Up to four blocks the head is the cheaper one. Six, which the paper takes, cost 21.7 GMAC more; the paper says 21.5.
# So "without any computational overhead", as the abstract has it, holds for up to four blocks, and for ATSS; [chapter
# 08](08_dynamic_head_on_detectors.ipynb) has the other detectors.
#
# ### AP against depth
#
# What do more blocks buy? The paper goes up to ten on COCO and settles for six. `dyhead-lab experiment depth` has
# trained heads of none to six on Shapes, with the frozen features and the budget of the ablation.

# %%
depth = recorded("depth")
for row in depth.rows:
    cost = depth.spread(row, "MMAC").mean
    late = depth.spread(row, "AP").mean - depth.spread(row, "AP after 900").mean
    reached = depth.spread(row, "AP").text()
    print(f"{row:9} AP {reached:14} {cost:4.0f} MMAC, {late:+.3f} in the second half")

# %% tags=["hide"]
from dyhead_book.c07_dynamic_head.training_figures import depth_ap_figure

sizes, blocks = [(20, 20), (10, 10), (5, 5), (3, 3)], (0, 1, 2, 4, 6)
costs = {row: n * block_macs(sizes, C) / 1e6 for row, n in zip(depth.rows, blocks, strict=True)}
Picture(
    depth_ap_figure(depth, costs),
    alt="AP against the cost of the head: far higher with one block than with none, higher again "
    "with two, no higher with four, lower with six.",
)

# %% [markdown]
# The first block multiplies the AP of the bare predictors, which would have to read a pyramid that nobody has prepared
# for them. The second adds more than five points in every seed. There it ends, at this budget: four blocks are where
# two are, and six are behind. Has a deep head less to give, or has it learned less? The AP on the way tells.

# %% tags=["hide"]
from dyhead_book.figures.ap_curves import ap_curves_figure
from dyhead_lab.experiments.curves import curve

ways = {row: curve(depth, row) for row in depth.rows[1:]}
alt = "AP over epochs: heads of four and six blocks rise later, and still rise at the end."
Picture(ap_curves_figure({"Shapes, frozen features": ways}, 3000 / 8, width=6), alt)

# %% [markdown]
# It has learned less. From two blocks on, the deeper the head, the later it rises, and the more it still gains in the
# second half, while the rate is lowered to zero. So depth is paid for in steps as well as in multiply-adds, and these
# curves do not say where each head would end: the paper trains for twelve epochs of 118,000 pictures, this experiment
# for five of 3,000. For a small training of your own the advice is plain: two blocks, and more steps before more
# blocks.
#
# ## Look: a photograph, block by block
#
# Now the workshop, the photograph that this book follows. The head of *everyday* has two released blocks of 96
# channels; here it runs on *your* classes.

# %%
from dyhead_lab.data.photographs import photograph

photo = photograph("workshop")
with rebuilt("everyday", DyHeadBlock=DyHeadBlock, DyHead=DyHead) as everyday:
    entered = {}
    hook = everyday.backbone.fpn.register_forward_hook(lambda *seen: entered.update(seen[2]))
    with torch.no_grad(), trace(everyday) as watched:
        [result] = everyday([photo])
    hook.remove()

kept = result["scores"] >= 0.3
categories = load_trained("everyday").categories
for label, score in zip(
    result["labels"][kept].tolist(), result["scores"][kept].tolist(), strict=True
):
    print(f"{categories[label]:12} {score:.2f}")

# %% [markdown]
# A head is a list of blocks, so "block by block" is a loop. The maps show the energy of a place over the mean energy of
# its map, all on one scale. White boxes are what was found.


# %%
def block_by_block(head):
    """The pyramid of the photograph, and the levels after each block of a head."""
    stages, levels = {"the pyramid": list(entered.values())}, list(entered.values())
    with torch.no_grad():
        for number, one_block in enumerate(head.blocks, 1):
            levels = one_block(levels)
            stages[f"after block {number}"] = levels
    return stages


stages = block_by_block(everyday.backbone.neck)

# %% tags=["hide"]
from dyhead_book.c07_dynamic_head.energy_maps import contrast, energy_maps_figure
from dyhead_lab.views.features import energy_share

padded = next(iter(watched.find("network_input")))[1].shape[-2:]
resized_to = everyday.transform([photo])[0].image_sizes[0]
covers = [
    n * whole / part for n, whole, part in zip(padded, photo.shape[1:], resized_to, strict=True)
]
shown = {name: [maps[l] for l in (0, 2, 3)] for name, maps in stages.items()}
figure = energy_maps_figure(photo, shown, ["P3", "P5", "P6"], result["boxes"][kept], covers)
Picture(
    figure,
    alt="The workshop under the energy of its features: in the pyramid bright on the motorcycle "
    "on P5 and P6, after the first block in fine grains on P3 and on the engine on P6, after the "
    "second nearly even.",
)

# %% [markdown]
# A picture invites stories, so put a number on it, and a control beside the number. How much more energy has a place
# inside the boxes than one outside, and how much with a head that has learned nothing?

# %%
torch.manual_seed(0)
untrained = block_by_block(DyHead(96, 2))
for name in stages:
    ratios = [
        [contrast(level, result["boxes"][kept], covers) for level in maps[name][:4]]
        for maps in (stages, untrained)
    ]
    print(f"{name:14}", *(f"{a:5.2f} ({b:.2f})" for a, b in zip(*ratios, strict=True)))

# %% [markdown]
# Columns are P3 to P6; in brackets the untrained head. The pyramid itself holds more energy inside the boxes, most of
# all on P6, where so large an object is found. Behind the trained blocks the contrast is lower on every level, and
# behind the second also lower than in an untrained head. So this head does not mark an object by energy: the predictors
# read directions in 96 channels, not lengths. The bright maps in a paper are often no more than one such photograph.
#
# ### Do features become sparser?
#
# The paper says, with the maps of one photograph, that features become more sparse behind spatial-aware attention, and
# lie on the places that tell objects apart. Measure it behind every step, by the share of the energy that lies in the
# strongest tenth of the positions: 10 % if energy is equal everywhere, 100 % for one bright place. Here are 24 pictures
# of Shapes, through the block of `quickstart`.

# %%
images = [pictures.image(index) for index in range(24)]
with torch.no_grad(), trace(trained.model) as seen:
    trained.model(images)
steps = {name.replace("_", " "): traced_features(seen, name)[0] for name in STEPS}
shares = {name: [energy_share(maps) for maps in step] for name, step in steps.items()}
for l, level in enumerate(LEVELS):
    means = (f"{name} {float(values[l].mean()):.0%}" for name, values in shares.items())
    print(level, *means, sep="  ")

# %% tags=["hide"]
Picture(
    sparsity_figure(shares, LEVELS),
    alt="Share of energy in the strongest tenth, per level and step, over 24 pictures.",
)

# %% [markdown]
# Read a line from left to right. (On P6 a tenth is rounded to one of 9 cells, so equal energy gives 11 %.) Maps do
# become sparser on the way through the block, but by a few per cent, and not each attention makes each level so; on the
# photograph the second block spread the energy again.
#
# ## Three sentences set right
#
# **"Dynamic Head uses deformable attention."** It uses deformable *convolution*, [version
# 2](https://arxiv.org/abs/1811.11168). Both look at a few predicted places, and there the likeness ends. In the
# convolution each tap has its own $C \times C$ matrix and a mask between 0 and 1. In [deformable
# attention](10_multi_scale_deformable_attention.ipynb) all points of a head share one matrix, and their weights come
# from a softmax: they sum to one, and the masks of the taps of a place do not.

# %%
detr = load_trained("deformable_detr_tiny").model
with torch.no_grad(), trace(trained.model) as convolution, trace(detr) as attention:
    trained.model(images[:1])
    detr(images[:1])
masks = torch.cat([x.sum(1).flatten() for _, x in convolution.find("masks")])
weights = torch.cat([x.sum((-1, -2)).flatten() for _, x in attention.find("attention_weights")])
print(f"sum of 9 masks: {masks.min():.2f} to {masks.max():.2f} in {len(masks)} places")
print(
    f"sum of the weights: {weights.min():.4f} to {weights.max():.4f} for {len(weights)} heads of "
    f"queries"
)

# %% [markdown]
# **"The head costs so many FLOPs per second."** FLOPs are a number of operations, a property of the head and the size
# of the image; per second one counts what a machine does. The count does not say how long it takes either. Compare a
# block of 64 channels with one of ordinary convolutions, which have no offsets to predict and read their input in
# order:

# %%
import time


def milliseconds(block, levels, repeats=5):
    """CPU time of the best of a few runs: other programs disturb it little."""
    times = []
    with torch.no_grad():
        for _ in range(repeats + 1):  # the first run warms up
            start = time.process_time()
            block(levels)
            times.append(time.process_time() - start)
    return 1000 * min(times[1:])


wide = [torch.randn(1, C, size, size) for size in (64, 32, 16, 8)]
deformable, ordinary = DyHeadBlock(C), DyHeadBlock(C, spatial=False)
more = block_macs([level.shape[2:] for level in wide], C)
fewer = more - 9 * C * 27 * sum(level[0, 0].numel() for level in wide)
ratio = milliseconds(deformable, wide) / milliseconds(ordinary, wide)
print(f"{more / fewer:.2f} times the multiply-adds, {ratio:.1f} times the CPU time on this machine")

# %% [markdown]
# **"It always improves a detector."** The paper reports gains of 1.2 to 3.2 AP for the five detectors that it tried.
# Here are four of this library, with blocks in the place of their towers, against themselves as published (2,400 steps
# on Shapes, `dyhead-lab experiment detectors`):

# %%
detectors = recorded("detectors")
for row, published in detectors.against.items():
    print(f"{row:34} {detectors.difference(row, 'AP').mean:+.3f} AP against {published}")

# %% [markdown]
# So not always: FCOS loses, and most of what RetinaNet wins is GroupNorm, which its published towers lack and every
# block has. It is one seed on drawn pictures, which does not refute the paper; [chapter
# 08](08_dynamic_head_on_detectors.ipynb) shows the curves.
#
# ## Break it
#
# `suspect` is a block with one mistake. Find it without reading: change one level of the input, and see which levels of
# the output change. In a right block a level and its neighbours answer.

# %%
suspect = drill(BLOCK_MISTAKES, 6)
torch.manual_seed(0)
block, calm = DyHeadBlock(16), [torch.randn(1, 16, size, size) for size in (32, 16, 8, 4, 2)]
with torch.no_grad():
    before = suspect(block, calm)
    for l in range(5):
        poked = list(calm)
        poked[l] = torch.randn_like(calm[l])
        pairs = zip([*LEVELS, "P7"], before, suspect(block, poked), strict=True)
        answer = [name for name, a, b in pairs if not torch.equal(a, b)]
        print(f"P{3 + l} changed: {', '.join(answer)} answer")

# %% [markdown]
# <details><summary>Answer</summary>
#
# P3 answers to P7. The finest level has taken `levels[-1]` for its finer neighbour. Ask the check:
# `check_block(type("Suspect", (DyHeadBlock,), {"forward": suspect}))`. The numbers 0 to 9 give ten bugs; some
# leave this table as it is.
#
# </details>

# %%
Challenge(
    "Train a head with three blocks and draw the features after each: does every block make them "
    "sparser?",
    difficulty=3,
    minutes=40,
    hints={
        "How to train it": "train(detector(lambda: DyHead(C, 3), 0), 0), with more steps if you "
        "have time.",
        "How to read it": "energy_share after each block of the loop above, over several pictures.",
    },
    answer="No. We trained one quickstart detector with three blocks (AP 0.427) and took "
    "energy_share "
    "over 24 pictures, P3 to P6. First: 29, 24, 17, 24 %. Second: 30, 29, 25, 19 %. Third: 23, "
    "25, 20, 20 %. So the second block is "
    "sparser than the first on three levels, and the third less sparse than the second on three. "
    "Before "
    "training all blocks lie between 13 and 22 %: training makes features sparser, the number of "
    "a block does not. "
    "One seed only.",
)

# %%
Challenge(
    "Do two attentions help each other? Take the interaction out of the factorial table",
    difficulty=3,
    minutes=15,
    hints={
        "What is an interaction?": "What the second adds when the first is on, minus what it adds "
        "when it is off.",
        "Where to begin": "For S and C: ap[row] - ap[row - S] - ap[row - C] + ap[row - S - C], "
        "seed by seed, for the "
        "two rows that have both.",
    },
    answer="Over six differences each: L and S -0.001, L and C +0.006, S and C -0.012, with single "
    "values between -0.026 and +0.025. Spatial- and task-aware attention seem to overlap a little: "
    "all six of their differences are below zero, though the interval over three seeds, -0.026 to "
    "+0.003, still holds it. The others add up, as far as three seeds can tell.",
)

# %% [markdown]
# ## Recap
#
# - One attention over everything has $(LSC)^2$ weights. Taken apart into three it becomes possible.
# - The paper's block works on one tensor, whose level axis the spatial step removes; to stack it and to come back to a
#   pyramid takes a residual and a skip, which are ours. The released block keeps the pyramid, and a level sees one
#   neighbour further with every block.
# - Switching off shows what a trained head relies on; training without shows what a part is worth. Read over all its
#   pairs, the factorial table says: spatial-aware attention adds most here, scale-aware attention nothing.

# %%
loss = {
    letter: AP[None] - AP[name]
    for letter, name in zip("LSC", ("scale", "spatial", "task"), strict=True)
}
numbers = ", ".join(f"{letter} {value:+.3f}" for letter, value in loss.items())
missed.revisit(max(loss, key=loss.get), f"AP lost on 60 pictures: {numbers}.")

# %%
mean = sum(effects["scale-aware"]) / 12
answer = "a" if mean > 0.01 else "c" if mean < -0.01 else "b"
scale_adds.revisit(answer, f"Mean of twelve paired differences: {mean:+.3f}.")

# %% [markdown]
# ## Your detector so far

# %%
so_far(
    "quickstart",
    images=10 if FAST else 60,
    SpatialAwareAttention=SpatialAwareAttention,
    ScaleAwareAttention=ScaleAwareAttention,
    TaskAwareAttention=TaskAwareAttention,
    DyHeadBlock=DyHeadBlock,
    DyHead=DyHead,
)

# %% [markdown]
# **Check yourself.**
#
# <details><summary>How many released blocks does it take until P3 has seen P7, and how many in the paper's
# form?</summary>
#
# Four: one level further with each block. In the paper's form all levels meet in the first.
#
# </details>
# <details><summary>Why can the sum over levels not be undone by a later layer?</summary>
#
# It maps L numbers to one. Different pyramids give the same sum, so nothing behind it can tell them apart; only
# what goes around the sum, the residual or the skip, can.
#
# </details>
# <details><summary>Which switches leave the number of multiply-adds almost unchanged, and which saves a
# convolution?</summary>
#
# Scale and task: a linear map of a mean, and two lines a channel. Without spatial-aware attention the convolution to
# 27 channels falls away, 28 % of what the three others cost at 64 channels, 7 % at 256.
#
# </details>
# <details><summary>Ten rows of an ablation are each "not significant" against the baseline. Why may the experiment as
# a whole still say something?</summary>
#
# Rows share switches. Pooled over all pairs that differ in one switch, the same runs measure it many times.
#
# </details>

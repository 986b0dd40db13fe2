# %% [markdown]
# # What you may have read elsewhere
#
# | | |
# | --- | --- |
# | Time | 15 minutes, under 1 minute to run on 2 CPU cores (a GPU changes nothing) |
# | Memory | under 1 GB, none on a GPU |
# | Needs | nothing; chapters 03 and 10 explain the words |
#
# Some sentences about deformable attention are repeated in many places and are not right. Each one stands here with
# a measurement that anybody can repeat.

# %%
import torch

from dyhead_lab.data.shapes import draw_image
from dyhead_lab.detectors.detr.configured import deformable_detr
from dyhead_lab.ops import deform_conv2d
from dyhead_lab.ops.formula import bilinear
from dyhead_lab.zoo import load_trained

# %% [markdown]
# ## "Bilinear interpolation takes the nearest pixel"
#
# It takes four pixels, each with a share. The nearest pixel has the largest share, but only on a pixel's centre does
# it have all of it. The difference decides whether offsets can be learned at all: a rounded position does not change
# when the offset changes a little, so its gradient is zero.

# %%
row = torch.tensor([[[0.0, 10.0, 20.0, 30.0]]])
position = torch.tensor([1.0, 1.25, 1.5, 1.75, 2.0], requires_grad=True)
value = bilinear(row, torch.zeros(5), position)[0]
slope = torch.autograd.grad(value.sum(), position)[0]
print("position        ", position.tolist())
print("bilinear        ", value.tolist())
print("nearest         ", row[0, 0, position.round().long()].tolist())
print("bilinear's slope", slope.tolist())

# %% [markdown]
# ## "Offsets are learned by comparing them with the ground truth"
#
# No data set says where a convolution should look. The loss has a part for classes, one for boxes and one for how
# near the middle of its object a place lies, and nothing else. Its gradient reaches the offsets through the values
# that were read. Here is the loss of the quickstart detector, part by part, and how strongly each part pulls at the
# layer that predicts offsets.

# %%
detector = load_trained("quickstart").model.train()
picture, objects = draw_image(2026, 5)
image = torch.from_numpy(picture).permute(2, 0, 1) / 255
masks = torch.stack([torch.from_numpy(shape.mask) for shape in objects])
boxes = torch.stack([torch.tensor([x.min(), y.min(), x.max() + 1, y.max() + 1]) for y, x in map(torch.where, masks)])
target = {"boxes": boxes.float(), "labels": torch.tensor([shape.label for shape in objects])}
losses = detector([image], [target])
offsets = next(p for name, p in detector.named_parameters() if "offset_mask.weight" in name)
for name, loss in losses.items():
    gradient = torch.autograd.grad(loss, offsets, retain_graph=True)[0]
    print(f"{name:18} {loss.item():.3f}, gradient at the offset layer {float(gradient.norm()):.4f}")

# %% [markdown]
# ## "The sampling offsets are normalised to [0, 1]"
#
# It is the **reference points** that are normalised. One reference point then names the same place on every level.
# Offsets count in cells of the level that is read. The same offset is a longer way on a coarser level. (Around a
# reference *box* they count in parts of the box, see chapter 10.)

# %%
image_width, offset = 768, 1.0  # pixels; cells
for stride in (8, 16, 32, 64):
    W = image_width // stride
    reference = 0.5
    location = reference + offset / W
    way = (location - reference) * image_width
    print(f"stride {stride:2}: location {location:.4f}, that is {way:2.0f} pixels further")

# %% [markdown]
# In a deformable convolution there is no normalisation at all: an offset of 1 is the next pixel of the map.

# %%
x = torch.arange(5.0).view(1, 1, 1, 5)
one_right = torch.zeros(1, 2, 1, 5)
one_right[:, 1] = 1  # (dy, dx) = (0, 1)
print(x.flatten().tolist(), "->", deform_conv2d(x, one_right, torch.ones(1, 1, 1, 1)).flatten().tolist())

# %% [markdown]
# ## "In the two-stage detector the encoder is trained first, by itself"
#
# There is one training. The loss of the encoder's proposals (`_enc`) is one part of the sum, beside those of the
# decoder. Both reach the encoder's layers in the same backward pass.

# %%
torch.manual_seed(0)
sizes = {"channels": 32, "heads": 4, "feedforward": 64, "encoder_layers": 2, "decoder_layers": 2, "queries": 20}
two_stage = deformable_detr(classes=6, backbone="narrow", refine=True, two_stage=True, **sizes)
losses = two_stage([image], [target])
weight = two_stage.transformer.encoder.layers[0].linear1.weight
for name in ("loss_ce", "loss_ce_enc"):  # of the last decoder layer, and of the proposals
    gradient = torch.autograd.grad(losses[name], weight, retain_graph=True)[0]
    print(f"{name:14} gradient at the first encoder layer {float(gradient.norm()):.5f}")

# %% [markdown]
# ## "Small objects are those below a tenth of the image"
#
# COCO counts pixels: below $32^2 = 1024$ an object is **small**, from $96^2 = 9216$ on it is **large**, whatever the
# size of the image. The area is that of the outline, not of the box. The evaluator holds these limits:

# %%
from pycocotools.cocoeval import Params

for label, (low, high) in zip(Params(iouType="bbox").areaRngLbl, Params(iouType="bbox").areaRng, strict=True):
    print(f"{label:6} from {low**0.5:3.0f} x {low**0.5:.0f} to {high**0.5:.0f} x {high**0.5:.0f} pixels")

# %% [markdown]
# ## Recap
#
# - Bilinear interpolation mixes four pixels; that is why offsets have a gradient.
# - The task's loss alone teaches offsets.
# - Reference points are normalised, offsets are not.
# - Two-stage is one training with one more loss.
# - Small, medium and large are areas in pixels: $32^2$ and $96^2$.

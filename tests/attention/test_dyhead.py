"""DyHead as a stack: containers, sizes, switches, precision, compilation, tracing."""

import pytest
import torch
from torch import nn

from dyhead_lab.attention import OFFSET_FITS, DyHead, undecoupled_attention, undecoupled_cost
from dyhead_lab.attention.paper import join_levels, split_levels
from dyhead_lab.trace import NAMES, trace

FORMS = [{"form": "released"}, {"form": "paper", "num_levels": 3}]


def pyramid(sizes=((12, 16), (6, 8), (3, 4)), channels=16, batch=2):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, channels, *size, generator=generator) for size in sizes]


@pytest.mark.parametrize("options", FORMS)
def test_the_same_container_comes_back(options):
    head = DyHead(16, blocks=2, **options).eval()
    levels = pyramid()
    as_list = head(levels)
    as_dict = head({f"p{i}": x for i, x in enumerate(levels, 3)})
    assert isinstance(as_list, list) and isinstance(head(tuple(levels)), tuple)
    assert list(as_dict) == ["p3", "p4", "p5"]
    for x, y, z in zip(levels, as_list, as_dict.values(), strict=True):
        assert y.shape == x.shape
        assert torch.equal(y, z)


@pytest.mark.parametrize("offset_fit", OFFSET_FITS)
@pytest.mark.parametrize("sizes", [((13, 7), (7, 4), (4, 2)), ((13, 9), (6, 4), (3, 2)), ((3, 2), (2, 1), (1, 1))])
def test_any_level_sizes(offset_fit, sizes):
    outputs = DyHead(16, blocks=2, offset_fit=offset_fit)(pyramid(sizes))
    assert [tuple(y.shape[2:]) for y in outputs] == list(sizes)
    assert all(y.isfinite().all() for y in outputs)


def test_one_released_block_on_one_level_with_everything_off_is_convolution_norm_relu():
    torch.manual_seed(0)
    head = DyHead(16, blocks=1, scale=False, spatial=False, task=False)
    [x] = pyramid([(5, 7)])
    own = head.blocks[0].spatial.own
    torch.testing.assert_close(head([x])[0], own.norm(own.conv(x)).relu())


def test_one_released_block_on_one_level_has_no_neighbours():
    torch.manual_seed(0)
    head = DyHead(16, blocks=1, task=False)
    [x] = pyramid([(5, 7)])
    block = head.blocks[0]
    conv = block.spatial.own.conv
    # Offsets start at zero and masks at one half: half an ordinary convolution, but the whole bias.
    own = block.spatial.own.norm(nn.functional.conv2d(x, conv.weight, padding=1) / 2 + conv.bias[:, None, None])
    gate = nn.functional.hardsigmoid(block.scale.gate(own.mean((2, 3))).relu())
    torch.testing.assert_close(head([x])[0], (gate[:, :, None, None] * own).relu())


def test_one_paper_block_on_one_level_with_everything_off_is_a_residual_convolution():
    torch.manual_seed(0)
    head = DyHead(16, blocks=1, form="paper", num_levels=1, scale=False, spatial=False, task=False)
    [x] = pyramid([(5, 7)])
    summed = nn.functional.conv2d(x, head.blocks[0].spatial.weight, padding=1)
    torch.testing.assert_close(head([x])[0], x + (x + summed).relu())


@pytest.mark.parametrize("options", FORMS)
@pytest.mark.parametrize("switch", ["scale", "spatial", "task"])
def test_a_switch_removes_its_parameters_and_its_traces(options, switch):
    taps = {name for name in NAMES if name.startswith("tap_")}
    shows = {"scale": {"scale_weights"}, "spatial": {"offsets", "masks"} | taps, "task": {"task_coefficients"}}
    whole, without = DyHead(16, blocks=1, **options), DyHead(16, blocks=1, **options | {switch: False})
    traces = []
    for head in (whole, without):
        with trace(head) as t:
            head(pyramid())
        traces.append(set(t.names()))
    assert traces[0] - traces[1] == shows[switch]
    gone = {name for name, _ in whole.named_parameters()} - {name for name, _ in without.named_parameters()}
    assert gone and all(name.startswith(f"blocks.0.{switch}.") for name in gone)


@pytest.mark.parametrize("options", FORMS)
def test_every_parameter_learns(options):
    torch.manual_seed(0)
    head = DyHead(16, blocks=2, **options)
    for name, parameter in head.named_parameters():  # away from the start, where zeros stop some gradients
        parameter.data += 0.1 * torch.randn_like(parameter)
        if name.endswith(("gate.bias", "fc1.bias")):
            parameter.data += 1  # and away from ReLUs that are shut
    sum(y.square().mean() for y in head(pyramid())).backward()
    assert [name for name, p in head.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_trace_of_the_released_form_goes_fine_to_coarse():
    head = DyHead(16, blocks=2)
    with trace(head) as t:
        outputs = head(pyramid())
    assert [w.shape[1] for w in t["blocks.0.scale", "scale_weights"]] == [2, 3, 2]
    assert [tuple(o.shape) for o in t["blocks.1.spatial", "offsets"]] == [(2, 18, *y.shape[2:]) for y in outputs]
    assert [tuple(b.shape[:2]) for b in t["blocks.0.spatial", "branches"]] == [(2, 2), (2, 3), (2, 2)]
    for kept, y in zip(t["blocks.1", "block_output"], outputs, strict=True):
        assert torch.equal(kept, y)


def test_branches_are_traced_fine_to_coarse():
    head = DyHead(16, blocks=1, scale=False)
    levels = pyramid()
    with trace(head) as t:
        head(levels)
    spatial = head.blocks[0].spatial
    finer, own, _ = t["blocks.0.spatial", "branches"][1].unbind(1)
    assert torch.equal(own, spatial(levels[1])[0])
    assert torch.equal(finer, spatial(levels[1], levels[0])[0])


@pytest.mark.parametrize("options", FORMS)
def test_bfloat16_autocast_stays_close(options):
    torch.manual_seed(0)
    head = DyHead(16, blocks=1, **options)
    levels = pyramid()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = head(levels)
        sum(y.float().sum() for y in outputs).backward()
    for y, exact in zip(outputs, head(levels), strict=True):
        # Eight bits of mantissa through a convolution and a normalisation.
        torch.testing.assert_close(y.float(), exact, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("offset_fit", OFFSET_FITS)
def test_channels_last_means_the_same(offset_fit):
    """The flat prefix is one of the logical order, whatever the order in memory."""
    torch.manual_seed(0)
    head = DyHead(16, blocks=1, offset_fit=offset_fit)
    nn.init.normal_(head.blocks[0].spatial.offset_mask.weight, std=0.1)
    expected = head(pyramid())
    last = [x.contiguous(memory_format=torch.channels_last) for x in pyramid()]
    for y, same in zip(head.to(memory_format=torch.channels_last)(last), expected, strict=True):
        # Convolutions sum in another order.
        torch.testing.assert_close(y, same, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", FORMS)
def test_it_compiles_in_one_graph(options):
    torch.manual_seed(0)
    head = DyHead(16, blocks=1, **options)
    levels = pyramid()
    compiled = torch.compile(head, backend="aot_eager", fullgraph=True)
    for y, expected in zip(compiled(levels), head(levels), strict=True):
        torch.testing.assert_close(y, expected)


def test_collapse_leaves_one_level_which_serves_all():
    head = DyHead(16, blocks=3, form="paper", num_levels=3, levels="collapse")
    levels = pyramid()
    assert [block.num_levels for block in head.blocks] == [3, 1, 1]
    F_BLSC, size = join_levels(levels)
    assert F_BLSC.shape == (2, 3, 48, 16) and size == (6, 8)
    assert head.blocks[0](F_BLSC, size).shape == (2, 1, 48, 16)
    added = [y - x for x, y in zip(levels, head(levels), strict=True)]
    torch.testing.assert_close(added[2], nn.functional.avg_pool2d(added[1], 2))


def test_joining_and_splitting_levels_of_one_size_are_inverse():
    levels = pyramid([(5, 7)] * 3)
    F_BLSC, size = join_levels(levels)
    assert all(torch.equal(x, y) for x, y in zip(levels, split_levels(F_BLSC, size, 3), strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "official"}, "form: expected one of released, paper"),
        ({"form": "paper"}, "num_levels"),
        ({"form": "paper", "num_levels": 3, "levels": "sum"}, "levels: expected one of residual, collapse"),
        ({"blocks": 0}, "blocks"),
        ({"channels": 30}, "multiple of 16"),
        ({"channels": 30, "form": "paper", "num_levels": 3}, "multiple of 4"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DyHead(**{"channels": 16} | options)


@pytest.mark.parametrize(
    ("levels", "error", "message"),
    [
        ([], ValueError, "at least one level"),
        (torch.zeros(1, 16, 4, 4), TypeError, "got Tensor"),
        (pyramid(channels=8), ValueError, r"level 0 has shape \(2, 8, 12, 16\), expected \(2, 16\)"),
        (pyramid()[::-1], ValueError, r"fine to coarse, but level 1 has size \(6, 8\)"),
    ],
)
def test_what_is_no_pyramid_is_refused(levels, error, message):
    with pytest.raises(error, match=message):
        DyHead(16, blocks=1)(levels)


def test_paper_form_refuses_another_number_of_levels():
    with pytest.raises(ValueError, match="built for 2 levels"):
        DyHead(16, blocks=1, form="paper", num_levels=2)(pyramid())


def test_undecoupled_attention_gates_every_number_by_every_other():
    torch.manual_seed(0)
    F_BLSC, weight = torch.randn(2, 2, 3, 2), torch.randn(12, 12)
    y = undecoupled_attention(F_BLSC, weight).flatten(1)
    for b in range(2):
        x = F_BLSC[b].flatten()
        for i in range(12):
            gate = 1 / (1 + torch.exp(-sum(weight[i, j] * x[j] for j in range(12))))
            torch.testing.assert_close(y[b, i], gate * x[i])
    assert undecoupled_cost(levels=2, positions=3, channels=2) == weight.numel()
    with pytest.raises(ValueError, match=r"weight: expected \(12, 12\)"):
        undecoupled_attention(F_BLSC, weight[:6])

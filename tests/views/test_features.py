import pytest
import torch

from dyhead_lab.views.features import energy_share


def test_energy_share_by_hand():
    equal = torch.ones(1, 3, 10, 10)
    one_place = torch.zeros(1, 3, 10, 10)
    one_place[:, :, 4, 4] = 5
    # 10 of 100 positions have twice the amplitude: four times the energy, 40 / (40 + 90).
    stronger = torch.ones(1, 3, 10, 10)
    stronger[:, :, 0] = 2
    shares = energy_share(torch.cat([equal, one_place, stronger]))
    # Sums of a hundred float32 numbers.
    torch.testing.assert_close(shares, torch.tensor([0.1, 1.0, 40 / 130]), rtol=1e-6, atol=0)


def test_energy_share_does_not_depend_on_scale_or_order():
    x = torch.randn(2, 4, 6, 5)
    mixed = x.flatten(2)[..., torch.randperm(30)].view(2, 4, 6, 5)
    torch.testing.assert_close(energy_share(7 * mixed), energy_share(x))
    assert energy_share(x, top=1.0).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize(
    ("features", "top", "named"), [(torch.ones(1, 2, 3), 0.1, "features"), (torch.ones(1, 2, 3, 3), 0.0, "top")]
)
def test_what_does_not_fit_is_named(features, top, named):
    with pytest.raises(ValueError, match=f"^{named}: got"):
        energy_share(features, top)

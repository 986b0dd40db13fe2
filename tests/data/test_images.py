"""Every kind of image file becomes (3, H, W) in [0, 1], or an error that names the file."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from dyhead_lab.data.images import exif_orientation, read_image
from dyhead_lab.errors import UserError

COLOUR = (200, 100, 50)


def expected(*channels):
    """One pixel's channels in [0, 1]; float32 division is exact to one unit in the last place."""
    return torch.tensor(channels, dtype=torch.float32) / 255


def test_colour_channels_and_pixel_order(tmp_path):
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.dtype == torch.float32 and image.shape == (3, 2, 3) and image.is_contiguous()
    torch.testing.assert_close(image * 255, torch.from_numpy(pixels).permute(2, 0, 1).float())


@pytest.mark.parametrize(
    ("mode", "stored", "shown"),
    [
        ("L", 200, (200, 200, 200)),
        ("LA", (200, 7), (200, 200, 200)),
        ("RGBA", (*COLOUR, 0), COLOUR),
        ("1", 1, (255, 255, 255)),
    ],
)
def test_grey_and_alpha(tmp_path, mode, stored, shown):
    Image.new(mode, (4, 2), stored).save(tmp_path / "a.png")
    torch.testing.assert_close(read_image(tmp_path / "a.png")[:, 1, 3], expected(*shown))


@pytest.mark.parametrize("transparency", [None, 0, b"\x10\x80"])
def test_palette_gives_its_colours_whatever_is_transparent(tmp_path, transparency):
    image = Image.new("P", (4, 2), 0)
    image.putpalette([*COLOUR, 1, 2, 3])
    options = {} if transparency is None else {"transparency": transparency}
    image.save(tmp_path / "a.png", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(read_image(tmp_path / "a.png")[:, 0, 0], expected(*COLOUR))


def test_cmyk_jpeg(tmp_path):
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(tmp_path / "a.jpg", quality=100)
    # Full cyan ink is (0, 255, 255); JPEG's own rounding may move it by a few of 255 steps.
    torch.testing.assert_close(read_image(tmp_path / "a.jpg")[:, 8, 8], expected(0, 255, 255), atol=0.02, rtol=0)


def test_sixteen_bits_are_divided_by_65535(tmp_path):
    grey = np.array([[0, 32768, 65535]], np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    for channel in read_image(tmp_path / "a.png"):
        torch.testing.assert_close(channel, torch.tensor([[0, 32768 / 65535, 1]]))


def test_floating_point_values_are_refused(tmp_path):
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(UserError, match=r"a\.tiff.*floating-point"):
        read_image(tmp_path / "a.tiff")


def test_exif_orientation_is_not_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: turn by 90 degrees
    Image.new("RGB", (40, 30)).save(tmp_path / "turned.jpg", exif=exif)
    Image.new("RGB", (40, 30)).save(tmp_path / "plain.jpg")
    assert read_image(tmp_path / "turned.jpg").shape == (3, 30, 40)
    assert exif_orientation(tmp_path / "turned.jpg") == 6
    assert exif_orientation(tmp_path / "plain.jpg") == 1


def test_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"not found: .*nowhere\.png"):
        read_image(tmp_path / "nowhere.png")


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif"])
@pytest.mark.parametrize("damage", ["empty", "text", "cut"])
def test_broken_file_is_named(tmp_path, suffix, damage):
    path = tmp_path / f"broken.{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "text": b"no picture", "cut": content[: len(content) // 2]}[damage])
    with pytest.raises(UserError, match=rf"cannot read image .*broken\.{suffix}"):
        read_image(path)


def damage_exif(path, kind):
    """Write an image whose pixels are sound and whose EXIF block is not."""
    image = Image.new("RGB", (64, 48), COLOUR)
    if kind == "png":
        image.save(path, "PNG", exif=b"\x00\x08\x00\x02\x01\x12\x00\x03")
        return
    image.save(path, "JPEG", dpi=(72, 72))  # with a density Pillow does not look into EXIF when it opens the file
    payload = b"Exif\0\0garbage!"
    block = b"\xff\xe1" + (len(payload) + 2).to_bytes(2, "big") + payload
    content = path.read_bytes()
    path.write_bytes(content[:2] + block + content[2:])


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_an_image_with_a_damaged_exif_block_is_read_as_it_lies(tmp_path, kind):
    path = tmp_path / "damaged"
    damage_exif(path, kind)
    assert read_image(path).shape == (3, 48, 64)
    with pytest.warns(UserWarning, match="damaged: its EXIF block is damaged .* as it lies") as caught:
        assert exif_orientation(path) == 1
    assert len(caught) == 1


@pytest.mark.parametrize("value", [0, 9, 99])
def test_an_orientation_that_there_is_not_means_upright(tmp_path, value):
    exif = Image.Exif()
    exif[0x0112] = value
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg", exif=exif)
    assert exif_orientation(tmp_path / "a.jpg") == 1


def test_the_orientation_of_no_image_is_an_error_that_names_it(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    for name in ("a.jpg", "nowhere.jpg"):
        with pytest.raises(UserError, match=name):
            exif_orientation(tmp_path / name)

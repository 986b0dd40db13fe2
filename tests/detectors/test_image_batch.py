"""Batches of images, and boxes in pixels and in shares of an image."""

import torch

from dyhead_lab.detectors.image_batch import IMAGE_MEAN, IMAGE_STD, normalise_targets, pad_images, to_pixels


def test_images_are_normalised_by_channel_and_padded_with_zeros():
    images = [torch.rand(3, 4, 6), torch.rand(3, 5, 3)]
    batch, padding = pad_images(images)
    assert batch.shape == (2, 3, 5, 6) and padding.shape == (2, 5, 6)
    for image, row, mask in zip(images, batch, padding, strict=True):
        _, H, W = image.shape
        for channel in range(3):
            wanted = (image[channel] - IMAGE_MEAN[channel]) / IMAGE_STD[channel]
            torch.testing.assert_close(row[channel, :H, :W], wanted)
        assert not mask[:H, :W].any() and mask.sum() == 5 * 6 - H * W
        assert not row[:, mask].any()


def test_boxes_are_measured_in_the_width_and_height_of_their_own_image():
    images = [torch.zeros(3, 10, 20), torch.zeros(3, 40, 8)]
    targets = [
        {"boxes": torch.tensor([[2.0, 1, 10, 6]]), "labels": torch.tensor([1])},
        {"boxes": torch.tensor([[0.0, 0, 4, 40], [2, 10, 8, 20]]), "labels": torch.tensor([0, 2])},
    ]
    first, second = normalise_targets(targets, images, classes=3)
    torch.testing.assert_close(first["boxes"], torch.tensor([[0.3, 0.35, 0.4, 0.5]]))
    torch.testing.assert_close(second["boxes"], torch.tensor([[0.25, 0.5, 0.5, 1.0], [0.625, 0.375, 0.75, 0.25]]))
    for target, made, image in zip(targets, (first, second), images, strict=True):
        torch.testing.assert_close(to_pixels(made["boxes"], *image.shape[1:]), target["boxes"])

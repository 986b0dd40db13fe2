import torch

from dyhead_book.c07_dynamic_head.boxes_and_features import boxes_and_features_figure


def test_every_level_is_drawn_beside_the_boxes():
    found = {"boxes": torch.tensor([[2.0, 2, 20, 20]]), "labels": torch.tensor([0]), "scores": torch.tensor([0.9])}
    features = [torch.rand(1, 4, size, size) for size in (8, 4, 2)]
    figure = boxes_and_features_figure(torch.rand(3, 40, 40), found, features, ["P3", "P4", "P5"], ["disc"])
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[0] == "" and [title[:3] for title in titles[1:]] == ["P3:", "P4:", "P5:"]
    assert any(text.get_text() == "disc 0.90" for text in figure.axes[0].texts)

"""Right answers to exercises of chapter 22 in another style than the book's: what the checks must let pass."""

OTHER_STYLES = {
    "mask": """
def who_is_hidden(groups, objects, queries):
    D = groups * objects
    hidden = torch.zeros(D + queries, D + queries, dtype=torch.bool)
    hidden[:, :D] = True
    for first in range(0, D, objects):
        hidden[first : first + objects, first : first + objects] = False
    return hidden
""",
    "shake": """
def shaken_boxes(boxes, random, noise):
    cx, cy, w, h = boxes.unbind(-1)
    right, down, wider, higher = (noise * random).unbind(-1)
    moved = [cx + right * w / 2, cy + down * h / 2, w + w * wider, h + h * higher]
    return torch.stack(moved, -1).clamp(min=0.001, max=0.999)
""",
}

"""Right answers in other styles than the chapter's: tests run the rest of the workbook on them."""

OTHER_STYLES = {
    "assign": """
def assign(points, units, reach, boxes, radius):
    found = torch.full((len(points),), -1)
    for number in (boxes[:, 2:] - boxes[:, :2]).prod(1).argsort(descending=True).tolist():  # later ones overwrite
        distances = sides(points, boxes[number])
        near = ((points - (boxes[number, :2] + boxes[number, 2:]) / 2).abs() < radius * units[:, None]).all(1)
        size = distances.max(1).values
        found[(distances > 0).all(1) & near & (size > reach[:, 0]) & (size < reach[:, 1])] = number
    return found
""",
    "focal_loss": """
def focal_loss(logits, targets, alpha=0.25, gamma=2.0):
    signed = torch.where(targets > 0, logits, -logits)
    weight = torch.where(targets > 0, alpha, 1 - alpha)
    return torch.sum(weight * torch.sigmoid(-signed) ** gamma * nn.functional.softplus(-signed))
""",
    "nms": """
def nms(boxes, scores, threshold):
    left, kept = scores.argsort(descending=True), []
    while len(left):
        kept.append(int(left[0]))
        left = left[1:][box_iou(boxes[left[:1]], boxes[left[1:]])[0] <= threshold]
    return torch.tensor(kept, dtype=torch.int64)
""",
}

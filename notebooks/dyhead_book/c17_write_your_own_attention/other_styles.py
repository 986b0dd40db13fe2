"""Right answers to exercises of chapter 17 in another style than the book's: what the checks must let pass."""

OTHER_STYLES = {
    "tokens": """
def to_tokens(levels):
    rows = []
    for level in levels:
        B, C, H, W = level.shape
        rows.append(level.permute(0, 2, 3, 1).reshape(B, H * W, C))
    return torch.cat(rows, dim=1)
""",
    "macs": """
def joint_macs(sizes, C):
    tokens = 0
    for height, width in sizes:
        tokens += height * width
    projections, scores, weighted_sum = 3 * tokens * C**2, tokens**2 * C, tokens**2 * C
    return projections + scores + weighted_sum
""",
}

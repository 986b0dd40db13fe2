"""Right answers to exercises of chapter 07 in another style than the book's: what the checks must let pass."""

OTHER_STYLES = {
    "join": """
def resized(x, size):
    shrinks = x.shape[-2] >= size[0] and x.shape[-1] >= size[1]
    if shrinks:
        return nn.AdaptiveAvgPool2d(size)(x)
    return nn.Upsample(size=tuple(size), mode="bilinear", align_corners=False)(x)


def join_levels(levels):
    H, W = levels[len(levels) // 2].shape[-2:]
    maps = torch.stack([resized(x, (H, W)) for x in levels], 1)
    B, L, C = maps.shape[:3]
    return maps.permute(0, 1, 3, 4, 2).reshape(B, L, H * W, C), (H, W)
""",
    "effects": """
def paired_differences(ap, letter):
    differences = []
    for row, values in ap.items():
        if letter in row:
            for seed, value in enumerate(values):
                differences.append(value - ap[frozenset(row) - {letter}][seed])
    return differences
""",
    "block_macs": """
def block_macs(sizes, C):
    total = 0
    for l, (H, W) in enumerate(sizes):
        total += 9 * C * (C + 27) * H * W
        if l > 0:
            total += 9 * C * C * H * W
        if l + 1 < len(sizes):
            h, w = sizes[l + 1]
            total += 9 * C * C * h * w
    return total
""",
}

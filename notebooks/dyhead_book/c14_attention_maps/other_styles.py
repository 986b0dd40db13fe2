"""Right answers to exercises of chapter 14 in another style than the book's: what the checks must let pass."""

OTHER_STYLES = {
    "taps": """
def tap_places(offset_18HW):
    _, H, W = offset_18HW.shape
    places = np.zeros((H, W, 9, 2))
    for row in range(H):
        for column in range(W):
            for k in range(9):
                dy, dx = offset_18HW[2 * k : 2 * k + 2, row, column]
                places[row, column, k, 0] = (column + k % 3 - 1 + dx + 0.5) / W
                places[row, column, k, 1] = (row + k // 3 - 1 + dy + 0.5) / H
    return places
""",
    "heat": """
def heat_map(positions_n2, weights_n, H, W):
    p_n2 = positions_n2 * (W, H) - 0.5
    near_x = np.clip(1 - np.abs(np.arange(W) - p_n2[:, :1]), 0, None)
    near_y = np.clip(1 - np.abs(np.arange(H) - p_n2[:, 1:]), 0, None)
    return (near_y * np.reshape(weights_n, (-1, 1))).T @ near_x
""",
    "carry": """
def tokens_that_carry(heat_N, share):
    wanted, collected = share * sum(heat_N), 0.0
    for count, heat in enumerate(sorted(heat_N, reverse=True), 1):
        collected += heat
        if collected >= wanted:
            return count / len(heat_N)
""",
}

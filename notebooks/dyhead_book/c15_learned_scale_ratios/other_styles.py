"""Right answers to exercises of chapter 15 in another style than the book's: what the checks must let pass."""

OTHER_STYLES = {
    "ratios": """
def scale_ratios(gates):
    rows = []
    for level in gates:
        finest, *_, coarsest = np.log2(level).T
        rows.append(finest - coarsest)
    return np.array(rows)
""",
    "interval": """
def paired_interval(before_n, after_n):
    changes = [a - b for a, b in zip(after_n, before_n, strict=True)]
    n = len(changes)
    mean = sum(changes) / n
    error = (sum((c - mean) ** 2 for c in changes) / (n - 1) / n) ** 0.5
    return np.array([mean - 2 * error, mean, mean + 2 * error])
""",
    "holm": """
def holm(p_n):
    adjusted, largest = [0.0] * len(p_n), 0.0
    for rank, place in enumerate(np.argsort(p_n)):
        largest = max(largest, (len(p_n) - rank) * p_n[place])
        adjusted[place] = min(largest, 1.0)
    return np.array(adjusted)
""",
}

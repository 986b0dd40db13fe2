"""Right answers in another style than the book's: what a check must accept."""

OTHER_STYLES = {
    "receptive": """
def receptive_field(layers):
    steps = np.cumprod([1] + [stride for _, stride, _ in layers])
    return 1 + sum(int(step) * d * (k - 1) for (k, _, d), step in zip(layers, steps))
""",
    "pyramid": """
class FeaturePyramidNetwork(nn.Module):
    def __init__(self, in_channels_list, out_channels, extra_blocks=None):
        super().__init__()
        self.inner_blocks, self.layer_blocks = nn.ModuleList(), nn.ModuleList()
        for C in in_channels_list:
            self.inner_blocks.append(nn.Sequential(nn.Conv2d(C, out_channels, 1)))
            self.layer_blocks.append(nn.Sequential(nn.Conv2d(out_channels, out_channels, 3, 1, 1)))
        self.extra_blocks = extra_blocks

    def forward(self, x):
        P, M = [], None
        for name, inner, layer in reversed(list(zip(x, self.inner_blocks, self.layer_blocks))):
            lateral = inner(x[name])
            M = lateral if M is None else lateral + F.interpolate(M, lateral.shape[2:])
            P.insert(0, layer(M))
        names = list(x)
        if self.extra_blocks is not None:
            P, names = self.extra_blocks(P, list(x.values()), names)
        return dict(zip(names, P))
""",
    "points": """
def points(height, width, stride):
    cells = [(column, row) for row in range(height) for column in range(width)]
    return np.array(cells) * float(stride) + stride / 2
""",
    "assign": """
def assign(points_N2, reach_N2, radius_N, boxes_M4):
    answer = []
    for (x, y), (low, high), radius in zip(points_N2, reach_N2, radius_N):
        fitting = []
        for m, (x1, y1, x2, y2) in enumerate(boxes_M4):
            sides = (x - x1, y - y1, x2 - x, y2 - y)
            near = abs(x - (x1 + x2) / 2) < radius and abs(y - (y1 + y2) / 2) < radius
            if min(sides) > 0 and near and low < max(sides) < high:
                fitting.append(((x2 - x1) * (y2 - y1), m))
        answer.append(min(fitting)[1] if fitting else -1)
    return np.array(answer)
""",
    "iou": """
def iou(a_n4, b_m4):
    answer = np.zeros((len(a_n4), len(b_m4)))
    for i, a in enumerate(a_n4):
        for j, b in enumerate(b_m4):
            w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
            both = max(w, 0) * max(h, 0)
            answer[i, j] = both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)
    return answer
""",
    "ap": """
def average_precision(scores, correct, objects):
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(correct[order])
    precision = found / np.arange(1, len(found) + 1)
    reads = [precision[found / objects >= r].max(initial=0) for r in np.linspace(0, 1, 101)]
    return sum(reads) / 101
""",
}

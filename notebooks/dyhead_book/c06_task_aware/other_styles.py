"""Right answers to exercises of chapter 06 in another style than the book's: what the checks must let pass."""

OTHER_STYLES = {
    "module": """
class TaskAwareAttention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // 4)
        self.fc2 = nn.Linear(channels // 4, 4 * channels)

    def forward(self, x):
        B, C = x.shape[:2]
        hidden = torch.relu(self.fc1(x.flatten(2).mean(-1)))
        y = (nn.functional.relu6(self.fc2(hidden) + 3) / 6).view(B, 4, C, 1, 1)
        first = 2 * y[:, 0] * x + (y[:, 1] - 0.5)
        second = (2 * y[:, 2] - 1) * x + (y[:, 3] - 0.5)
        return torch.where(first > second, first, second)
""",
    "leaky": """
def leaky_biases(C, slope):
    return np.concatenate([np.zeros(C), np.zeros(C), np.full(C, 3 * slope), np.zeros(C)])
""",
}

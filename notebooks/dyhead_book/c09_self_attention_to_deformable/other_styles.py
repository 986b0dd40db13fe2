"""Right answers to exercises of chapter 09 in another style than the book's: what the checks must let pass."""

OTHER_STYLES = {
    "attention": """
def attention(query, key, value, padding=None):
    scores = torch.einsum("bmqd,bmnd->bmqn", query, key) / query.shape[-1] ** 0.5
    if padding is not None:
        scores = torch.where(padding, torch.full_like(scores, -math.inf), scores)
    raised = (scores - scores.amax(-1, keepdim=True)).exp()
    weights = raised / raised.sum(-1, keepdim=True)
    return torch.einsum("bmqn,bmnd->bmqd", weights, value), weights
""",
    "macs": """
def attention_macs(N, C, M, P):
    projections = {"dense": 4 * N * C * C, "deformable": 2 * N * C * C}
    points = M * P
    offsets_and_weights = N * C * 2 * points + N * C * points
    samples = N * points * (C // M) * (4 + 1)
    return projections["dense"] + 2 * N * N * C, projections["deformable"] + offsets_and_weights + samples
""",
    "deform_attention": """
def deform_attention(value_HWMD, reference_Q2, offsets_QMP2, weights_QMP):
    H, W = value_HWMD.shape[:2]
    position = reference_Q2[:, None, None] + offsets_QMP2
    corner = np.floor(position).astype(int)
    head, out = np.arange(value_HWMD.shape[2])[None, :, None], 0
    for right, below in ((0, 0), (1, 0), (0, 1), (1, 1)):
        x, y = corner[..., 0] + right, corner[..., 1] + below
        share = (1 - abs(x - position[..., 0])) * (1 - abs(y - position[..., 1])) * weights_QMP
        inside = (0 <= x) & (x < W) & (0 <= y) & (y < H)
        read = value_HWMD[np.clip(y, 0, H - 1), np.clip(x, 0, W - 1), head]
        out = out + ((share * inside)[..., None] * read).sum(2)
    return out
""",
}

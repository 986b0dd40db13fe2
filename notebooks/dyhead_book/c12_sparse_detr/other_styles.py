"""Right answers to exercises of chapter 12 in another style than the book's: what the checks must let pass."""

OTHER_STYLES = {
    "keep": """
def token_budget(padding_BN, rho):
    counts = [int((~padding).sum()) for padding in padding_BN]
    return torch.tensor([min(int(rho * n) + 1, n) for n in counts])


def keep_best(scores_BN, padding_BN, budget_B):
    order = scores_BN.detach().masked_fill(padding_BN, float("-inf")).argsort(1, descending=True)
    T = int(budget_B.max())
    return KeptTokens(order[:, :T], torch.arange(T) >= budget_B[:, None])
""",
    "loss": """
def scorer_loss(scores_BN, dam_BN, padding_BN, budget_B):
    losses = []
    for scores, dam, padding, budget in zip(scores_BN, dam_BN, padding_BN, budget_B, strict=True):
        wanted = torch.zeros_like(scores)
        wanted[dam.masked_fill(padding, -1).topk(int(budget)).indices] = 1
        loss = F.softplus(scores) - wanted * scores
        losses.append(loss[~padding].mean())
    return torch.stack(losses).mean()
""",
}

"""Right answers in other styles than the chapter's: tests run the rest of the workbook on them."""

OTHER_STYLES = {
    "step_factor": """
def step_factor(step, milestones, gamma, warmup, warmup_factor):
    rate = 1.0
    for milestone in milestones:
        if step >= milestone:
            rate *= gamma
    share = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return rate * (warmup_factor * (1 - share) + share)
""",
    "parameter_groups": """
def parameter_groups(model, lr, backbone_lr, offset_lr, weight_decay, decay_norms=False):
    sampling, groups = sampling_parameters(model), []
    body = {id(p) for p in getattr(model.backbone, "body", model.backbone).parameters()}
    for p in model.parameters():  # a group for each
        if p.requires_grad:
            rate = lr * (offset_lr if id(p) in sampling else 1) * (backbone_lr if id(p) in body else 1)
            decay = weight_decay if decay_norms or (p.ndim > 1 and id(p) not in sampling) else 0.0
            groups.append({"params": [p], "lr": rate, "initial_lr": rate, "weight_decay": decay})
    return groups
""",
    "accumulate": """
def accumulate(model, images, targets, parts):
    totals, size = {}, len(images) // parts
    for n in range(parts):
        losses = model(images[n * size : (n + 1) * size], targets[n * size : (n + 1) * size])
        torch.autograd.backward([loss / parts for loss in losses.values()])
        for name, loss in losses.items():
            totals.setdefault(name, []).append(loss.detach())
    return {name: torch.stack(values).mean() for name, values in totals.items()}
""",
}

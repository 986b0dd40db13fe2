"""Right answers in another style than the book's: what a check must accept."""

OTHER_STYLES = {
    "bilinear": """
def bilinear(image_HW, p_y, p_x):
    H, W = image_HW.shape
    share_y = np.maximum(0, 1 - np.abs(np.arange(H) - p_y))
    share_x = np.maximum(0, 1 - np.abs(np.arange(W) - p_x))
    return share_y @ image_HW @ share_x
""",
    # Vectorised: Numba could not compile it, and nothing asks it to.
    "loops": """
def deform_conv2d(input, offset, weight, mask, stride, padding, dilation):
    B, C, H, W = input.shape
    G, groups = mask.shape[1] // 9, C // weight.shape[1]
    Ho, Wo = offset.shape[2:]
    dp = offset.reshape(B, G, 9, 2, Ho, Wo)
    k = np.arange(9)[:, None, None]
    p_y = np.arange(Ho)[:, None] * stride[0] - padding[0] + k // 3 * dilation[0] + dp[:, :, :, 0]
    p_x = np.arange(Wo) * stride[1] - padding[1] + k % 3 * dilation[1] + dp[:, :, :, 1]
    share_y = np.maximum(0, 1 - np.abs(np.arange(H) - p_y[..., None]))
    share_x = np.maximum(0, 1 - np.abs(np.arange(W) - p_x[..., None]))
    x = input.reshape(B, G, -1, H, W)
    samples = np.einsum("bgchw,bgkijh,bgkijw->bgckij", x, share_y, share_x, optimize=True)
    samples *= mask.reshape(B, G, 1, 9, Ho, Wo)
    samples = samples.reshape(B, groups, -1, 9, Ho, Wo)
    w = weight.reshape(groups, -1, weight.shape[1], 9)
    return np.einsum("ngckij,gock->ngoij", samples, w).reshape(B, -1, Ho, Wo)
""",
    "kernel": """
@njit
def deform_conv2d_compiled(input, offset, weight, mask, stride, padding, dilation):
    B, C, H, W = input.shape
    Co, C_group, Kh, Kw = weight.shape
    Ho, Wo = offset.shape[2:]
    out = np.zeros((B, Co, Ho, Wo), input.dtype)
    for b in range(B):
        for o in range(Co):
            for c in range(C_group):
                channel = o // (Co * C_group // C) * C_group + c
                g = channel // (C // (mask.shape[1] // 9))
                for k in range(9):
                    for i in range(Ho):
                        for j in range(Wo):
                            p_y, p_x = position(offset, b, g, k, i, j, stride, padding, dilation)
                            total = 0.0
                            for row, column, share, _, _ in around(p_y, p_x):
                                if row >= 0 and column >= 0 and row < H and column < W:
                                    total += input[b, channel, row, column] * share
                            out[b, o, i, j] += total * mask[b, 9 * g + k, i, j] * weight[o, c, k // 3, k % 3]
    return out
""",
    "slope": """
def bilinear_slope(image_HW, p_y, p_x):
    top = math.floor(p_y)
    return bilinear(image_HW, top + 1, p_x) - bilinear(image_HW, top, p_x)
""",
    "function": """
def arrays(*tensors):
    return [np.ascontiguousarray(x.detach().numpy()) for x in tensors]


class DeformConv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *arguments):
        ctx.save_for_backward(*arguments[:4])
        ctx.rest = arguments[4:]
        return torch.as_tensor(deform_conv2d_compiled(*arrays(*arguments[:4]), *ctx.rest))

    @staticmethod
    def backward(ctx, grad):
        found = deform_conv2d_backward(grad.contiguous().numpy(), *arrays(*ctx.saved_tensors), *ctx.rest)
        return tuple(torch.as_tensor(g) for g in found) + (None, None, None)
""",
    "layer": """
class DeformableConv2d(nn.Conv2d):
    def __init__(self, in_channels, out_channels, stride=1, bias=True):
        super().__init__(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=bias)
        self.add_module("offset_mask", OffsetMaskConv(in_channels, stride=stride))

    def forward(self, x):
        out = DeformConv2d.apply(x, *self.offset_mask(x)[:1], self.weight, self.offset_mask(x)[1],
                                 self.stride, (1, 1), (1, 1))
        return out + (0 if self.bias is None else self.bias.view(1, -1, 1, 1))
""",
}

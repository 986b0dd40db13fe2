// Deformable convolution: tensors in, sizes checked, kernels launched, tensors out.
#include "deform_conv/operator.h"

#include "binding/operators.h"

namespace dyhead {
namespace {

using namespace deform_conv;

/// Output size of a convolution along one axis.
int64_t output_size(int64_t size, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation) {
  return (size + 2 * pad - dilation * (kernel - 1) - 1) / stride + 1;
}

/// The tensors of one call, checked against each other.
struct Call {
  Geometry g;
  Type type;
  Arguments arguments;
  ScalarType exact;     // of offsets and masks, and of their gradients, as kernels read and write them
  Tensor exact_offset;  // `arguments` points to it, and to the mask
  std::optional<Tensor> exact_mask;

  Call(const Tensor& input, const Tensor& offset, const Tensor& weight, const std::optional<Tensor>& mask,
       const Sizes& stride, const Sizes& pad, const Sizes& dilation, int64_t groups, int64_t G)
      : exact(accumulator_of(input)), exact_offset(offset), exact_mask(mask) {
    const Sizes of_input = sizes_of(input, "input", 4), of_weight = sizes_of(weight, "weight", 4);
    const int64_t B = of_input[0], C = of_input[1], H = of_input[2], W = of_input[3];
    const int64_t Co = of_weight[0], kernel_h = of_weight[2], kernel_w = of_weight[3], K = kernel_h * kernel_w;
    STD_TORCH_CHECK(stride[0] > 0 && stride[1] > 0, "'stride' must be positive");
    STD_TORCH_CHECK(groups > 0 && C % groups == 0 && Co % groups == 0, "'groups' must divide both channel counts");
    STD_TORCH_CHECK(G > 0 && C % G == 0, "'offset_groups' must divide the channels of 'input'");
    const int64_t Ho = output_size(H, kernel_h, stride[0], pad[0], dilation[0]);
    const int64_t Wo = output_size(W, kernel_w, stride[1], pad[1], dilation[1]);
    STD_TORCH_CHECK(Ho >= 0 && Wo >= 0, "the kernel is larger than the padded 'input'");
    const auto as_int = [](int64_t size) { return int(size); };
    g = {B,
         C,
         Co,
         as_int(H),
         as_int(W),
         as_int(Ho),
         as_int(Wo),
         as_int(kernel_h),
         as_int(kernel_w),
         as_int(stride[0]),
         as_int(stride[1]),
         as_int(pad[0]),
         as_int(pad[1]),
         as_int(dilation[0]),
         as_int(dilation[1]),
         as_int(groups),
         as_int(G)};
    type = type_of(input, "input");
    const ScalarType scalar = input.scalar_type();
    expect(input, "input", of_input, scalar, input);
    STD_TORCH_CHECK(offset.scalar_type() == scalar || offset.scalar_type() == exact,
                    "'offset' must have the dtype of 'input', or float32 beside a 16-bit 'input'");
    expect(offset, "offset", {B, 2 * G * K, Ho, Wo}, offset.scalar_type(), input);
    expect(weight, "weight", {Co, C / groups, kernel_h, kernel_w}, scalar, input);
    if (mask) expect(*mask, "mask", {B, G * K, Ho, Wo}, offset.scalar_type(), input);
    exact_offset = torch::stable::to(offset, exact);
    if (mask) exact_mask = torch::stable::to(*mask, exact);
    arguments = {buffer(input, "input"), buffer(exact_offset, "offset"), buffer(weight, "weight"),
                 optional(exact_mask, "mask")};
  }

  static Buffer optional(const std::optional<Tensor>& tensor, const char* name) {
    return tensor ? buffer(*tensor, name) : Buffer{nullptr, 0, name};
  }
};

/// (B, C, H, W) -> (B, H, W, C) in memory, aligned for reads of 16 bytes.
Tensor channels_last(const Tensor& tensor) {
  const Tensor result = torch::stable::contiguous(tensor, torch::headeronly::MemoryFormat::ChannelsLast);
  return is_aligned(buffer(result, "")) ? result : torch::stable::clone(result);
}

/// (Co, C, kernel_h, kernel_w) -> (C, K, Co).
Tensor outputs_last(const Tensor& weight) {
  const auto size = weight.sizes();
  const Tensor flat = torch::stable::view(weight, Sizes{size[0], size[1] * size[2] * size[3]});
  const Tensor turned = torch::stable::contiguous(torch::stable::transpose(flat, 0, 1));
  return is_aligned(buffer(turned, "")) ? turned : torch::stable::clone(turned);
}

}  // namespace

Tensor deform_conv2d_forward(Tensor input, Tensor offset, Tensor weight, std::optional<Tensor> mask, int64_t stride_h,
                             int64_t stride_w, int64_t pad_h, int64_t pad_w, int64_t dil_h, int64_t dil_w,
                             int64_t groups, int64_t offset_groups, std::string kernel, bool tf32) {
  Call call(input, offset, weight, mask, {stride_h, stride_w}, {pad_h, pad_w}, {dil_h, dil_w}, groups, offset_groups);
  const Geometry& g = call.g;
  const OnDevice device(input);
  const Tensor output = torch::stable::new_empty(input, Sizes{g.B, g.Co, g.Ho, g.Wo});
  if (choose_fast(kernel, is_fast(g, call.type))) {
    const Tensor pixels = channels_last(input), taps = channels_last(weight);
    call.arguments.input = buffer(pixels, "input"), call.arguments.weight = buffer(taps, "weight");
    forward_fast(g, call.type, tf32, call.arguments, buffer(output, "output"), device.stream);
  } else {
    forward(g, call.type, call.arguments, buffer(output, "output"), device.stream);
  }
  return output;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> deform_conv2d_backward(Tensor grad, Tensor input, Tensor offset,
                                                                  Tensor weight, std::optional<Tensor> mask,
                                                                  int64_t stride_h, int64_t stride_w, int64_t pad_h,
                                                                  int64_t pad_w, int64_t dil_h, int64_t dil_w,
                                                                  int64_t groups, int64_t offset_groups,
                                                                  bool deterministic, std::string kernel, bool tf32) {
  Call call(input, offset, weight, mask, {stride_h, stride_w}, {pad_h, pad_w}, {dil_h, dil_w}, groups, offset_groups);
  const Geometry& g = call.g;
  expect(grad, "grad", {g.B, g.Co, g.Ho, g.Wo}, input.scalar_type(), input);
  const OnDevice device(input);
  const bool fast = choose_fast(kernel, is_fast(g, call.type));
  const ScalarType exact = call.exact;
  Tensor grad_input = zeros_like(input, exact);
  const Tensor grad_offset = torch::stable::empty_like(call.exact_offset);
  const Tensor grad_weight = torch::stable::empty_like(weight);
  const Tensor grad_mask =
      mask ? torch::stable::empty_like(*call.exact_mask) : torch::stable::new_empty(input, Sizes{0});
  const Buffer grad_output = buffer(grad, "grad");
  Gradients gradients{buffer(grad_input, "grad_input"), buffer(grad_offset, "grad_offset"),
                      mask ? buffer(grad_mask, "grad_mask") : Buffer{nullptr, 0, "grad_mask"}};
  const auto results = [&](const Tensor& grad_input) {
    const ScalarType of_points = offset.scalar_type();
    return std::tuple(torch::stable::contiguous(torch::stable::to(grad_input, input.scalar_type())),
                      torch::stable::to(grad_offset, of_points), grad_weight,
                      mask ? torch::stable::to(grad_mask, of_points) : grad_mask);
  };
  if (!fast || deterministic) {
    const Tensor columns = torch::stable::new_empty(input, Sizes{g.C * g.K() * g.So()}, exact);
    backward(g, call.type, call.arguments, grad_output, gradients, buffer(columns, "columns"), deterministic,
             device.stream);
  }
  if (!fast) {
    backward_weight(g, call.type, call.arguments, grad_output, buffer(grad_weight, "grad_weight"), device.stream);
    return results(grad_input);
  }
  const Tensor pixels = channels_last(input);
  call.arguments.input = buffer(pixels, "input");
  if (!deterministic) {
    const Tensor grads = channels_last(grad), taps = outputs_last(weight);
    grad_input = channels_last(grad_input);
    call.arguments.weight = buffer(taps, "weight"), gradients.input = buffer(grad_input, "grad_input");
    backward_fast(g, call.type, tf32, call.arguments, buffer(grads, "grad"), gradients, device.stream);
  }
  const Tensor parts = torch::stable::new_empty(input, Sizes{weight_parts(g) * weight.numel()}, exact);
  backward_weight_fast(g, call.type, tf32, call.arguments, grad_output, buffer(parts, "parts"),
                       buffer(grad_weight, "grad_weight"), device.stream);
  return results(grad_input);
}

}  // namespace dyhead

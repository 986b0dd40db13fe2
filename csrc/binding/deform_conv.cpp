// Deformable convolution: tensors in, kernels chosen and launched, tensors out.
#include "binding/deform_conv_columns.h"
#include "binding/operators.h"

namespace dyhead {
namespace {

using namespace deform_conv;

/// (B, C, H, W) -> (B, H, W, C) in memory, aligned for reads of 16 bytes. No copy of what is so already.
Tensor channels_last(const Tensor& tensor) {
  const Tensor result = torch::stable::contiguous(tensor, torch::headeronly::MemoryFormat::ChannelsLast);
  return is_aligned(buffer(result, "")) ? result : torch::stable::clone(result);
}

/// (Co, C, kernel_h, kernel_w) -> (C, K, Co).
Tensor outputs_last(const Tensor& weight) {
  const auto size = weight.sizes();
  const Tensor flat = torch::stable::reshape(weight, Sizes{size[0], size[1] * size[2] * size[3]});
  const Tensor turned = torch::stable::contiguous(torch::stable::transpose(flat, 0, 1));
  return is_aligned(buffer(turned, "")) ? turned : torch::stable::clone(turned);
}

/// What the tensor cores multiply: with `tf32` the floats rounded, in a copy.
Tensor factors(const Tensor& tensor, bool tf32, void* stream) {
  if (!tf32 || tensor.scalar_type() != ScalarType::Float) return tensor;
  const Tensor rounded = torch::stable::empty_like(tensor);
  round_all_to_tf32(buffer(tensor, "factors"), buffer(rounded, "rounded factors"), stream);
  return rounded;
}

std::string choose_kernel(const std::string& kernel, const Call& call) {
  return choose(kernel, is_fast(call.g, call.type), "columns");
}

}  // namespace

bool deform_conv2d_is_fast(Tensor input, Tensor offset, Tensor weight, std::optional<Tensor> mask, int64_t stride_h,
                           int64_t stride_w, int64_t pad_h, int64_t pad_w, int64_t dil_h, int64_t dil_w, int64_t groups,
                           int64_t offset_groups) {
  const Call call(input, offset, weight, mask, {stride_h, stride_w}, {pad_h, pad_w}, {dil_h, dil_w}, groups,
                  offset_groups);
  const OnDevice device(input);
  return is_fast(call.g, call.type);
}

Tensor deform_conv2d_forward(Tensor input, Tensor offset, Tensor weight, std::optional<Tensor> mask, int64_t stride_h,
                             int64_t stride_w, int64_t pad_h, int64_t pad_w, int64_t dil_h, int64_t dil_w,
                             int64_t groups, int64_t offset_groups, std::string kernel, bool tf32) {
  Call call(input, offset, weight, mask, {stride_h, stride_w}, {pad_h, pad_w}, {dil_h, dil_w}, groups, offset_groups);
  const OnDevice device(input);
  Geometry& g = call.g;
  const std::string chosen = choose_kernel(kernel, call);
  if (chosen == "columns") return forward_by_columns(call, input, weight, device.stream);
  const Tensor output = empty_map({g.B, g.Co, g.Ho, g.Wo}, g.output_last, input.scalar_type(), input);
  if (chosen == "fast") {
    const Tensor pixels = channels_last(input), taps = factors(channels_last(weight), tf32, device.stream);
    g.input_last = true;
    call.arguments.input = buffer(pixels, "input"), call.arguments.weight = buffer(taps, "weight");
    const int64_t count = forward_parts(g);
    const Tensor parts = torch::stable::new_empty(input, Sizes{count > 1 ? count * output.numel() : 0}, call.exact);
    forward_fast(g, call.type, tf32, call.arguments, buffer(parts, "parts"), buffer(output, "output"), device.stream);
  } else {
    const Tensor weights = torch::stable::contiguous(weight);
    call.arguments.weight = buffer(weights, "weight");
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
  const OnDevice device(input);
  Geometry& g = call.g;
  expect(grad, "grad", {g.B, g.Co, g.Ho, g.Wo}, input.scalar_type(), input, true);
  const std::string chosen = choose_kernel(kernel, call);
  const bool fast = chosen == "fast", last = g.input_last;
  const ScalarType exact = call.exact;
  const Tensor grad_offset = torch::stable::empty_like(call.exact_offset);
  const Tensor grad_mask =
      mask ? torch::stable::empty_like(*call.exact_mask) : torch::stable::new_empty(input, Sizes{0});
  // The fast kernels read and add to pixels, all channels of one together.
  const Tensor pixels = fast ? channels_last(input) : input;
  g.input_last = last || fast;
  call.arguments.input = buffer(pixels, "input");
  Tensor grad_input = empty_map({g.B, g.C, g.H, g.W}, g.input_last, exact, input);
  torch::stable::zero_(grad_input);
  const Tensor grads = fast ? factors(channels_last(grad), tf32, device.stream) : grad;
  g.output_last = fast || is_channels_last(grads);
  const Buffer grad_output = buffer(grads, "grad");
  const Gradients gradients{buffer(grad_input, "grad_input"), buffer(grad_offset, "grad_offset"),
                            mask ? buffer(grad_mask, "grad_mask") : Buffer{nullptr, 0, "grad_mask"}};
  Tensor grad_weight, taps;  // the arguments point into taps until the end
  if (chosen == "simple") {
    const Tensor columns = torch::stable::new_empty(input, Sizes{g.C * g.K() * g.So()}, exact);
    const Tensor weights = torch::stable::contiguous(weight);
    call.arguments.weight = buffer(weights, "weight");
    backward(g, call.type, call.arguments, grad_output, gradients, buffer(columns, "columns"), deterministic,
             device.stream);
    grad_weight = torch::stable::new_empty(input, weight.sizes());
    backward_weight(g, call.type, call.arguments, grad_output, buffer(grad_weight, "grad_weight"), device.stream);
  } else if (fast && !deterministic) {
    taps = factors(outputs_last(weight), tf32, device.stream);
    call.arguments.weight = buffer(taps, "weight");
    backward_fast(g, call.type, tf32, call.arguments, grad_output, gradients, device.stream);
  } else {
    backward_by_columns(call, grad, weight, gradients, deterministic, device.stream);
  }
  if (fast) {
    const Tensor parts = torch::stable::new_empty(input, Sizes{weight_parts(g) * weight.numel()}, exact);
    grad_weight = torch::stable::new_empty(input, weight.sizes());
    backward_weight_fast(g, call.type, tf32, call.arguments, grad_output, buffer(parts, "parts"),
                         buffer(grad_weight, "grad_weight"), device.stream);
  } else if (chosen == "columns") {
    grad_weight = weight_by_columns(call, grad, pixels, weight, device.stream);
  }
  grad_input = converted(grad_input, input.scalar_type());
  const ScalarType of_points = offset.scalar_type();
  return {last ? grad_input : torch::stable::contiguous(grad_input), converted(grad_offset, of_points), grad_weight,
          mask ? converted(grad_mask, of_points) : grad_mask};
}

}  // namespace dyhead

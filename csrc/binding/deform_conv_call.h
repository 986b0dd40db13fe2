// The arguments of a deformable convolution: tensors in, sizes checked, buffers out.
#pragma once

#include "binding/tensors.h"
#include "deform_conv/operator.h"

namespace dyhead::deform_conv {

/// Output size of a convolution along one axis.
inline int64_t output_size(int64_t size, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation) {
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
         as_int(G),
         is_channels_last(input),
         is_channels_last(input)};
    type = type_of(input, "input");
    const ScalarType scalar = input.scalar_type();
    expect(input, "input", of_input, scalar, input, true);
    STD_TORCH_CHECK(offset.scalar_type() == scalar || offset.scalar_type() == exact,
                    "'offset' must have the dtype of 'input', or float32 beside a 16-bit 'input'");
    expect(offset, "offset", {B, 2 * G * K, Ho, Wo}, offset.scalar_type(), input);
    expect(weight, "weight", {Co, C / groups, kernel_h, kernel_w}, scalar, input, true);
    if (mask) expect(*mask, "mask", {B, G * K, Ho, Wo}, offset.scalar_type(), input);
    exact_offset = converted(offset, exact);
    if (mask) exact_mask = converted(*mask, exact);
    arguments = {buffer(input, "input"), buffer(exact_offset, "offset"), buffer(weight, "weight"),
                 optional(exact_mask, "mask")};
  }

  static Buffer optional(const std::optional<Tensor>& tensor, const char* name) {
    return tensor ? buffer(*tensor, name) : Buffer{nullptr, 0, name};
  }
};

/// A tensor of this shape on the device of `like`, channels-last or contiguous; its values are undefined.
inline Tensor empty_map(const Sizes& sizes, bool last, ScalarType type, const Tensor& like) {
  using torch::headeronly::MemoryFormat;
  const MemoryFormat format = last ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous;
  return torch::stable::empty(sizes, type, std::nullopt, like.device(), std::nullopt, format);
}

}  // namespace dyhead::deform_conv

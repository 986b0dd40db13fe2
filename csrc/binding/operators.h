// The operators as torch calls them; tensors must be contiguous, maps and weights of the convolution may be
// channels-last. Autograd and friendly messages are Python's.
#pragma once

#include <optional>
#include <tuple>

#include "binding/tensors.h"

namespace dyhead {

/// Whether the fast kernels take this call.
bool deform_conv2d_is_fast(Tensor input, Tensor offset, Tensor weight, std::optional<Tensor> mask, int64_t stride_h,
                           int64_t stride_w, int64_t pad_h, int64_t pad_w, int64_t dil_h, int64_t dil_w, int64_t groups,
                           int64_t offset_groups);

Tensor deform_conv2d_forward(Tensor input, Tensor offset, Tensor weight, std::optional<Tensor> mask, int64_t stride_h,
                             int64_t stride_w, int64_t pad_h, int64_t pad_w, int64_t dil_h, int64_t dil_w,
                             int64_t groups, int64_t offset_groups, std::string kernel, bool tf32);

std::tuple<Tensor, Tensor, Tensor, Tensor> deform_conv2d_backward(Tensor grad, Tensor input, Tensor offset,
                                                                  Tensor weight, std::optional<Tensor> mask,
                                                                  int64_t stride_h, int64_t stride_w, int64_t pad_h,
                                                                  int64_t pad_w, int64_t dil_h, int64_t dil_w,
                                                                  int64_t groups, int64_t offset_groups,
                                                                  bool deterministic, std::string kernel, bool tf32);

Tensor ms_deform_attn_forward(Tensor value, Tensor spatial_shapes, Tensor level_start_index, Tensor sampling_locations,
                              Tensor attention_weights, std::string kernel);

std::tuple<Tensor, Tensor, Tensor> ms_deform_attn_backward(Tensor grad, Tensor value, Tensor spatial_shapes,
                                                           Tensor level_start_index, Tensor sampling_locations,
                                                           Tensor attention_weights, bool deterministic,
                                                           std::string kernel);

/// Read the memory, float32 in whole packs of 16 bytes, `repeats` times past the first-level cache. Returns what each
/// thread of the GPU summed up.
Tensor l2_read(Tensor memory, int64_t repeats);

/// Add 1 `repeats` times to every element of zeros like `memory`, 16 bytes at once. Returns the sums.
Tensor l2_add(Tensor memory, int64_t repeats);

}  // namespace dyhead

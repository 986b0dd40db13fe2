// Deformable convolution by columns: samples are kept in memory, and the matrix products are torch's own.
#pragma once

#include <algorithm>

#include "binding/deform_conv_call.h"

namespace dyhead::deform_conv {

/// The weight as a matrix for each group: (groups, Co / groups, C / groups * K).
inline Tensor matrices(const Geometry& g, const Tensor& weight) {
  return torch::stable::view(torch::stable::contiguous(weight),
                             Sizes{g.groups, g.group_outputs(), g.group_inputs() * g.K()});
}

/// So many images at a time that their columns, and a weight for each of them, hold 2^25 elements at most, or one.
inline int64_t images_at_once(const Geometry& g) {
  const int64_t most = 1 << 25, of_image = g.C * g.K() * g.So();
  const int64_t of_weight = g.Co * g.group_inputs() * g.K();
  return std::max<int64_t>(1, std::min(g.B, most / std::max<int64_t>(1, std::max(of_image, of_weight))));
}

/// Call `function(images, maps of these images)` for a few images at a time. `maps`: (B, Co, Ho, Wo), contiguous;
/// handed on as (images, groups, Co / groups, Ho * Wo).
template <class Function>
void by_images(const Geometry& g, const Tensor& maps, const Function& function) {
  const int64_t step = images_at_once(g);
  for (int64_t first = 0; first < g.B; first += step) {
    const Images images{first, std::min(step, g.B - first)};
    Tensor these = maps;
    these = torch::stable::narrow(these, 0, images.first, images.count);
    function(images, torch::stable::view(these, Sizes{images.count, g.groups, g.group_outputs(), g.So()}));
  }
}

/// The samples of some images, (images, groups, C / groups * K, Ho * Wo).
inline Tensor columns_of(const Call& call, Images images, const Tensor& input, void* stream) {
  const Geometry& g = call.g;
  const Tensor columns =
      torch::stable::new_empty(input, Sizes{images.count, g.groups, g.group_inputs() * g.K(), g.So()});
  sample_columns(g, call.type, call.arguments, images, buffer(columns, "columns"), stream);
  return columns;
}

inline Tensor forward_by_columns(const Call& call, const Tensor& input, const Tensor& weight, void* stream) {
  const Geometry& g = call.g;
  const Tensor output = empty_map({g.B, g.Co, g.Ho, g.Wo}, false, input.scalar_type(), input);
  const Tensor matrix = matrices(g, weight);
  by_images(g, output, [&](Images images, Tensor outputs) {
    torch::stable::copy_(outputs, torch::stable::matmul(matrix, columns_of(call, images, input, stream)));
  });
  return g.input_last ? torch::stable::contiguous(output, torch::headeronly::MemoryFormat::ChannelsLast) : output;
}

/// Fills the gradients of input, offset and mask.
inline void backward_by_columns(const Call& call, const Tensor& grad, const Tensor& weight, const Gradients& gradients,
                                bool deterministic, void* stream) {
  const Geometry& g = call.g;
  const Tensor matrix = torch::stable::transpose(matrices(g, weight), 1, 2);
  by_images(g, torch::stable::contiguous(grad), [&](Images images, const Tensor& grads) {
    const Tensor columns = torch::stable::contiguous(torch::stable::matmul(matrix, grads));
    scatter_columns(g, call.type, call.arguments, images, buffer(columns, "columns"), gradients, deterministic, stream);
  });
}

inline Tensor weight_by_columns(const Call& call, const Tensor& grad, const Tensor& input, const Tensor& weight,
                                void* stream) {
  const Geometry& g = call.g;
  const int64_t steps = (g.B + images_at_once(g) - 1) / images_at_once(g);
  const Sizes of_matrices{g.groups, g.group_outputs(), g.group_inputs() * g.K()};
  // Sums over images are kept wide: a sum of 16-bit numbers that is rounded at each step loses what is small.
  const Tensor sums =
      torch::stable::new_empty(input, Sizes{steps, of_matrices[0], of_matrices[1], of_matrices[2]}, call.exact);
  int64_t step = 0;
  by_images(g, torch::stable::contiguous(grad), [&](Images images, const Tensor& grads) {
    const Tensor columns = torch::stable::transpose(columns_of(call, images, input, stream), 2, 3);
    const Tensor of_images = torch::stable::matmul(grads, columns);
    Tensor all = sums;
    Tensor sum = torch::stable::select(all, 0, step++);
    torch::stable::copy_(sum, torch::stable::sum(of_images, Sizes{0}, false, call.exact));
  });
  const Tensor total = torch::stable::sum(sums, Sizes{0}, false, call.exact);
  return torch::stable::view(converted(total, weight.scalar_type()), weight.sizes());
}

}  // namespace dyhead::deform_conv

// Between torch's tensors and the launchers' buffers, through the stable ABI alone.
//
// This file and its neighbours are compiled twice: as they are for the CPU, where kernels run under the emulator, and
// with DYHEAD_CUDA for the GPU.
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <string>
#include <vector>

#include "common/interface.h"

namespace dyhead {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Sizes = std::vector<int64_t>;

/// True if channels vary fastest in the memory of (B, C, H, W), without gaps, and not in the usual order as well.
inline bool is_channels_last(const Tensor& tensor) {
  if (tensor.dim() != 4 || tensor.is_contiguous()) return false;
  int64_t stride = 1;
  for (const int axis : {1, 3, 2, 0}) {
    if (tensor.size(axis) != 1 && tensor.stride(axis) != stride) return false;
    stride *= tensor.size(axis);
  }
  return true;
}

/// Refuse a tensor that is not contiguous or not of the expected shape, type and device: the kernels trust all four.
/// `or_last`: channels-last is contiguous too.
inline void expect(const Tensor& tensor, const char* name, const Sizes& sizes, ScalarType type, const Tensor& beside,
                   bool or_last = false) {
  const std::string argument = std::string("'") + name + "'";
  STD_TORCH_CHECK(tensor.scalar_type() == type, argument, " has the wrong dtype");
  STD_TORCH_CHECK(tensor.device() == beside.device(), argument, " is on another device than the first argument");
  const auto given = tensor.sizes();
  bool same = given.size() == sizes.size();
  for (size_t i = 0; same && i < sizes.size(); ++i) same = given[i] == sizes[i];
  STD_TORCH_CHECK(same, argument, " has the wrong shape");
  STD_TORCH_CHECK(tensor.is_contiguous() || (or_last && is_channels_last(tensor)), argument, " must be contiguous");
}

/// The sizes of a tensor that must have `dimensions` of them.
inline Sizes sizes_of(const Tensor& tensor, const char* name, size_t dimensions) {
  STD_TORCH_CHECK(tensor.sizes().size() == dimensions, "'", name, "' must have ", dimensions, " dimensions");
  return Sizes(tensor.sizes().begin(), tensor.sizes().end());
}

inline Type type_of(const Tensor& tensor, const char* name) {
  switch (tensor.scalar_type()) {
    case ScalarType::Float:
      return Type::float32;
    case ScalarType::Double:
      return Type::float64;
    case ScalarType::Half:
      return Type::float16;
    case ScalarType::BFloat16:
      return Type::bfloat16;
    default:
      STD_TORCH_CHECK(false, "'", name, "' must be float16, bfloat16, float32 or float64");
  }
  return Type::float32;
}

inline Buffer buffer(const Tensor& tensor, const char* name) { return {tensor.data_ptr(), tensor.numel(), name}; }

/// The type that gradients are summed up in.
inline ScalarType accumulator_of(const Tensor& tensor) {
  return tensor.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

inline Tensor zeros_like(const Tensor& tensor, ScalarType type) {
  return torch::stable::new_zeros(tensor, tensor.sizes(), type);
}

inline Tensor converted(const Tensor& tensor, ScalarType type) {
  return tensor.scalar_type() == type ? tensor : torch::stable::to(tensor, type);
}

/// Which kernels run, out of what was asked for: "auto" takes the fast ones where they are possible, else `otherwise`.
/// "fast" on a call that the fast kernels cannot do is an error. Only deform_conv2d has "columns".
inline std::string choose(const std::string& kernel, bool fast_is_possible, const std::string& otherwise) {
  STD_TORCH_CHECK(kernel == "auto" || kernel == "simple" || kernel == "columns" || kernel == "fast",
                  "'kernel' must be 'auto', 'simple', 'columns' or 'fast', not '", kernel, "'");
  STD_TORCH_CHECK(kernel != "fast" || fast_is_possible, "kernel='fast' cannot do these shapes and types");
  if (kernel == "auto") return fast_is_possible ? "fast" : otherwise;
  return kernel == "columns" ? otherwise : kernel;
}

/// Makes a tensor's device the current one for as long as it lives, and knows the stream to launch on.
struct OnDevice {
#ifdef DYHEAD_CUDA
  torch::stable::accelerator::DeviceGuard guard;
  void* stream = nullptr;
  explicit OnDevice(const Tensor& tensor) : guard(tensor.get_device_index()) {
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  }
#else
  void* stream = nullptr;
  explicit OnDevice(const Tensor&) {}
#endif
};

}  // namespace dyhead

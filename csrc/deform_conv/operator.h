// Deformable convolution as the binding sees it: sizes, buffers, launchers. No torch, no CUDA.
#pragma once

#include "common/interface.h"

namespace dyhead::deform_conv {

/// The sizes of one call, in the letters of CONTRIBUTING.md; Co, Ho, Wo are those of the output.
struct Geometry {
  int64_t B, C, Co;
  int H, W, Ho, Wo;
  int kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
  int groups, G;

  HOST_DEVICE int K() const { return kernel_h * kernel_w; }
  HOST_DEVICE int64_t S() const { return int64_t(H) * W; }
  HOST_DEVICE int64_t So() const { return int64_t(Ho) * Wo; }
  HOST_DEVICE int64_t group_inputs() const { return C / groups; }
  HOST_DEVICE int64_t group_outputs() const { return Co / groups; }
  HOST_DEVICE int64_t offset_group_channels() const { return C / G; }
};

/// The arguments of the operator: input and weight of one type T, offset and mask of type Accumulator<T>.
struct Arguments {
  Buffer input;   // (B, C, H, W)
  Buffer offset;  // (B, 2*G*K, Ho, Wo), (dy, dx) per tap
  Buffer weight;  // (Co, C / groups, kernel_h, kernel_w)
  Buffer mask;    // (B, G*K, Ho, Wo), or no data
};

/// Where the backward pass writes.
struct Gradients {
  Buffer input;   // (B, C, H, W), type Accumulator<T>, zeros: the launchers add to it
  Buffer offset;  // like the argument
  Buffer mask;    // like the argument, or no data
};

/// True if the fast kernels can do this call; the simple ones can do every call.
bool is_fast(const Geometry&, Type);

// The simple kernels.

void forward(const Geometry&, Type, const Arguments&, Buffer output, void* stream);

/// Gradients of input, offset and mask. `columns`: workspace of C * K * So elements of type Accumulator<T>, the
/// gradient of one image's samples.
void backward(const Geometry&, Type, const Arguments&, Buffer grad_output, const Gradients&, Buffer columns,
              bool deterministic, void* stream);

void backward_weight(const Geometry&, Type, const Arguments&, Buffer grad_output, Buffer grad_weight, void* stream);

// The fast kernels. Their input is channels-last, (B, H, W, C). `tf32`: multiply float32 rounded to TF32.

/// `weight` of the arguments is (Co, K, C).
void forward_fast(const Geometry&, Type, bool tf32, const Arguments&, Buffer output, void* stream);

/// Gradients of input, offset and mask. `weight` of the arguments is (C, K, Co), `grad_output` is (B, Ho, Wo, Co), and
/// the gradient of the input is channels-last as well.
void backward_fast(const Geometry&, Type, bool tf32, const Arguments&, Buffer grad_output, const Gradients&,
                   void* stream);

/// `weight` of the arguments is not read. `parts`: workspace of weight_parts(g) * Co * C * K floats.
void backward_weight_fast(const Geometry&, Type, bool tf32, const Arguments&, Buffer grad_output, Buffer parts,
                          Buffer grad_weight, void* stream);
int weight_parts(const Geometry&);

}  // namespace dyhead::deform_conv

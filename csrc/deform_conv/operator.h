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
  bool input_last, output_last;  // channels-last in memory: the input and its gradient; the output and its gradient

  HOST_DEVICE int K() const { return kernel_h * kernel_w; }
  HOST_DEVICE int64_t S() const { return int64_t(H) * W; }
  HOST_DEVICE int64_t So() const { return int64_t(Ho) * Wo; }
  HOST_DEVICE int64_t group_inputs() const { return C / groups; }
  HOST_DEVICE int64_t group_outputs() const { return Co / groups; }
  HOST_DEVICE int64_t offset_group_channels() const { return C / G; }

  /// Where channel c of pixel p lies in the input, and channel o of pixel p in the output.
  HOST_DEVICE int64_t input_at(int64_t b, int64_t c, int64_t p) const {
    return input_last ? (b * S() + p) * C + c : (b * C + c) * S() + p;
  }
  HOST_DEVICE int64_t output_at(int64_t b, int64_t o, int64_t p) const {
    return output_last ? (b * So() + p) * Co + o : (b * Co + o) * So() + p;
  }
};

/// A run of the batch's images.
struct Images {
  int64_t first, count;
};

/// The arguments of the operator: input and weight of one type T, offset and mask of type Accumulator<T>.
struct Arguments {
  Buffer input;   // (B, C, H, W), in memory as Geometry says
  Buffer offset;  // (B, 2*G*K, Ho, Wo), (dy, dx) per tap
  Buffer weight;  // (Co, C / groups, kernel_h, kernel_w)
  Buffer mask;    // (B, G*K, Ho, Wo), or no data
};

/// Where the backward pass writes.
struct Gradients {
  Buffer input;   // (B, C, H, W), type Accumulator<T>, zeros, in memory like the input: the launchers add to it
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

// The kernels around a matrix product that is torch's own. `columns`: samples, or their gradients, of some images,
// (images, C, K, Ho * Wo), type T.

void sample_columns(const Geometry&, Type, const Arguments&, Images, Buffer columns, void* stream);

/// Gradients of input, offset and mask of these images, from those of their samples.
void scatter_columns(const Geometry&, Type, const Arguments&, Images, Buffer grad_columns, const Gradients&,
                     bool deterministic, void* stream);

// The fast kernels. Their input is channels-last, (B, H, W, C). `tf32`: multiply float32 rounded to TF32.

/// Floats rounded to TF32: weights and output gradients are rounded once, not by every block that multiplies them.
void round_all_to_tf32(Buffer from, Buffer to, void* stream);

/// `weight` of the arguments is (Co, K, C), with `tf32` rounded.
/// `parts`: workspace of forward_parts(g) * Co * all output pixels floats, nothing if forward_parts(g) is 1.
void forward_fast(const Geometry&, Type, bool tf32, const Arguments&, Buffer parts, Buffer output, void* stream);
/// Among how many blocks the taps are split, where there are fewer tiles than multiprocessors.
int forward_parts(const Geometry&);

/// Gradients of input, offset and mask. `weight` of the arguments is (C, K, Co), `grad_output` is (B, Ho, Wo, Co), with
/// `tf32` both are rounded, and the gradient of the input is channels-last as well.
void backward_fast(const Geometry&, Type, bool tf32, const Arguments&, Buffer grad_output, const Gradients&,
                   void* stream);

/// `weight` of the arguments is not read, `grad_output` is as for backward_fast.
/// `parts`: workspace of weight_parts(g) * Co * C * K floats.
void backward_weight_fast(const Geometry&, Type, bool tf32, const Arguments&, Buffer grad_output, Buffer parts,
                          Buffer grad_weight, void* stream);
int weight_parts(const Geometry&);

}  // namespace dyhead::deform_conv

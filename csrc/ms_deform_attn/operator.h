// Multi-scale deformable attention as the binding sees it: sizes, buffers, launchers. No torch, no CUDA.
#pragma once

#include "common/interface.h"

namespace dyhead::ms_deform_attn {

/// The sizes of one call, in the letters of CONTRIBUTING.md.
struct Geometry {
  int64_t B, N, M, D, Q;
  int L, P;

  HOST_DEVICE int64_t samples() const { return B * Q * M * L * P; }
  HOST_DEVICE int64_t outputs() const { return B * Q * M * D; }
};

/// The levels: sizes, and where each starts among the N tokens. Kernels get them by value, with their parameters: so
/// nothing is copied to a GPU and nothing waits for it, also while a CUDA graph is captured.
struct Levels {
  static constexpr int kMost = 32;
  int height[kMost], width[kMost];
  int64_t start[kMost];
};

/// The arguments of the operator.
struct Arguments {
  Buffer value;  // (B, N, M, D), type `Types::value`
  Levels levels;
  Buffer sampling_locations;  // (B, Q, M, L, P, 2), (x, y), type `Types::location`
  Buffer attention_weights;   // (B, Q, M, L, P), type `Types::location`
};

/// Locations and weights have the type of the value, or stay float32 beside a 16-bit value.
struct Types {
  Type value, location;
};

/// Where the backward pass writes.
struct Gradients {
  Buffer value;               // (B, N, M, D), type Accumulator<value>, zeros: the launchers add to it
  Buffer sampling_locations;  // like the argument
  Buffer attention_weights;   // like the argument
};

/// True if the fast kernels can do this call; the simple ones can do every call.
bool is_fast(const Geometry&, Types, const Arguments&);

void forward(const Geometry&, Types, const Arguments&, Buffer output, bool fast, void* stream);
void backward(const Geometry&, Types, const Arguments&, Buffer grad_output, const Gradients&, bool fast,
              bool deterministic, void* stream);

}  // namespace dyhead::ms_deform_attn

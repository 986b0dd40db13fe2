// What every kernel of this operator asks: the typed arguments, and where a kernel tap falls on the input.
#pragma once

#include "common/bilinear.cuh"
#include "common/memory.cuh"
#include "deform_conv/operator.h"

namespace dyhead::deform_conv {

/// Tap k of offset group g at output pixel p of image b.
struct Tap {
  int64_t b;
  int g, k;
  int64_t p;
};

/// The arguments with their types. Offsets and masks are never 16 bits wide: an error of an offset moves a sample.
template <class T>
struct Inputs {
  using A = Accumulator<T>;
  Global<const T> input, weight;
  Global<const A> offset, mask;

  explicit Inputs(const Arguments& from)
      : input(global<const T>(from.input)),
        weight(global<const T>(from.weight)),
        offset(global<const A>(from.offset)),
        mask(global<const A>(from.mask)) {}

  /// Index of the tap in the mask; its offset lies at offset_index (dy) and one plane further (dx).
  __device__ int64_t mask_index(const Geometry& g, const Tap& t) const {
    return ((t.b * g.G + t.g) * g.K() + t.k) * g.So() + t.p;
  }
  __device__ int64_t offset_index(const Geometry& g, const Tap& t) const {
    return 2 * ((t.b * g.G + t.g) * g.K() + t.k) * g.So() + t.p;
  }

  /// The cell in which a tap reads: p_0 + p_k + dp_k.
  __device__ Cell<A> cell(const Geometry& g, const Tap& t) const {
    const int64_t at = offset_index(g, t);
    const int y = int(t.p / g.Wo) * g.stride_h - g.pad_h + t.k / g.kernel_w * g.dilation_h;
    const int x = int(t.p % g.Wo) * g.stride_w - g.pad_w + t.k % g.kernel_w * g.dilation_w;
    return Cell<A>(y + load(offset, at), x + load(offset, at + g.So()), g.H, g.W);
  }

  /// dm_k, or 1 without a mask.
  __device__ A modulation(const Geometry& g, const Tap& t) const {
    return mask.data ? load(mask, mask_index(g, t)) : A(1);
  }

  /// Channel c of image b at the four corners of a cell; zeros outside.
  __device__ void corners(const Geometry& g, const Cell<A>& cell, int64_t b, int64_t c, A (&corner)[2][2]) const {
    for (int i = 0; i < 2; ++i)
      for (int j = 0; j < 2; ++j) {
        const int64_t at = g.input_at(b, c, int64_t(cell.top + i) * g.W + cell.left + j);
        corner[i][j] = cell.has(i, j, g.H, g.W) ? A(widen(load(input, at))) : A(0);
      }
  }

  /// One modulated sample: x_c(p_0 + p_k + dp_k) dm_k.
  __device__ A sample(const Geometry& g, const Tap& t, int64_t c) const {
    A corner[2][2];
    const Cell<A> at = cell(g, t);
    corners(g, at, t.b, c, corner);
    return at.value(corner) * modulation(g, t);
  }
};

}  // namespace dyhead::deform_conv

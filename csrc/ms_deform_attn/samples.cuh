// What every kernel of this operator asks: the typed arguments, a level, and where a sample falls on it.
#pragma once

#include "common/bilinear.cuh"
#include "common/launch.cuh"
#include "common/memory.cuh"
#include "ms_deform_attn/operator.h"

namespace dyhead::ms_deform_attn {

/// The arguments with their types: T of the value, U of locations and weights.
template <class T, class U>
struct Inputs {
  Global<const T> value;
  Levels levels;
  Global<const U> sampling_locations, attention_weights;

  explicit Inputs(const Arguments& from)
      : value(global<const T>(from.value)),
        levels(from.levels),
        sampling_locations(global<const U>(from.sampling_locations)),
        attention_weights(global<const U>(from.attention_weights)) {}

  __device__ int height(int l) const { return levels.height[l]; }
  __device__ int width(int l) const { return levels.width[l]; }
  __device__ int64_t start(int l) const { return levels.start[l]; }

  /// The cell in which sample s falls on a level of H x W: phi(r) = r * size - 0.5.
  template <class A>
  __device__ Cell<A> cell(int64_t s, int H, int W) const {
    const A x = widen(load(sampling_locations, 2 * s)), y = widen(load(sampling_locations, 2 * s + 1));
    return Cell<A>(y * H - A(0.5), x * W - A(0.5), H, W);
  }

  /// Channel d of head m at the four corners of a cell; zeros outside the level.
  template <class A>
  __device__ void corners(const Geometry& g, const Cell<A>& cell, int64_t b, int64_t start, int H, int W, int64_t m,
                          int64_t d, A (&corner)[2][2]) const {
    for (int i = 0; i < 2; ++i)
      for (int j = 0; j < 2; ++j) {
        const int64_t n = start + int64_t(cell.top + i) * W + cell.left + j;
        corner[i][j] = cell.has(i, j, H, W) ? A(widen(load(value, ((b * g.N + n) * g.M + m) * g.D + d))) : A(0);
      }
  }
};

/// Call `function` with the TypeTags of value and locations.
template <class Function>
void with_types(Types types, const Function& function) {
  with_type(types.value, [&](auto value) {
    if (types.value != types.location) {
      if constexpr (sizeof(typename decltype(value)::type) == 2) return function(value, TypeTag<float>());
    }
    function(value, value);
  });
}

}  // namespace dyhead::ms_deform_attn

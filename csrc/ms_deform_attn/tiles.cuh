// How queries are dealt out to blocks: in tiles, so that the queries of a block read neighbouring pixels.
//
// In an encoder the queries are the pixels themselves. A tile is then a rectangle of pixels, and the block's
// reads overlap in its cache. Any other set of queries is cut into runs.
#pragma once

#include "ms_deform_attn/samples.cuh"

namespace dyhead::ms_deform_attn {

/// The tiles of `slots` queries each. A slot of a tile may be empty.
struct Tiles {
  static constexpr int kWidth = 8;

  int slots;
  bool are_rectangles;
  int64_t count;

  template <class T, class U>
  __device__ Tiles(const Geometry& g, const Inputs<T, U>& in, int slots) : slots(slots) {
    int64_t pixels = 0, rectangles = 0;
    bool in_order = true;
    for (int l = 0; l < g.L; ++l) {
      in_order = in_order && in.start(l) == pixels;
      pixels += int64_t(in.height(l)) * in.width(l);
      rectangles += rows(in.height(l)) * columns(in.width(l));
    }
    are_rectangles = slots % kWidth == 0 && in_order && pixels == g.N && g.Q == g.N;
    count = are_rectangles ? rectangles : (g.Q + slots - 1) / slots;
  }

  __device__ int64_t rows(int64_t H) const { return (H * kWidth + slots - 1) / slots; }
  __device__ int64_t columns(int64_t W) const { return (W + kWidth - 1) / kWidth; }

  /// The query in a slot of a tile, or -1.
  template <class T, class U>
  __device__ int query(const Geometry& g, const Inputs<T, U>& in, int64_t tile, int slot) const {
    if (!are_rectangles) return tile * slots + slot < g.Q ? int(tile * slots + slot) : -1;
    int l = 0;
    for (; tile >= rows(in.height(l)) * columns(in.width(l)); ++l)
      tile -= rows(in.height(l)) * columns(in.width(l));
    const int H = in.height(l), W = in.width(l);
    const int64_t y = tile / columns(W) * (slots / kWidth) + slot / kWidth;
    const int64_t x = tile % columns(W) * kWidth + slot % kWidth;
    return y < H && x < W ? int(in.start(l) + y * W + x) : -1;
  }
};

}  // namespace dyhead::ms_deform_attn

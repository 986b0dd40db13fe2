// How queries are dealt out to blocks: in tiles, so that the queries of a block read neighbouring pixels.
//
// In an encoder the queries are the pixels themselves. A tile is then a rectangle of pixels, and the block's reads
// overlap in its cache. Any other set of queries is cut into runs.
#pragma once

#include "ms_deform_attn/samples.cuh"

namespace dyhead::ms_deform_attn {

/// The tiles of `slots` queries each; `slots` is a power of two. A slot of a tile may be empty.
struct Tiles {
  static constexpr int kWidth = 8;

  int slots, height;  // of a rectangle; 0: tiles are runs
  int count;

  template <class T, class U>
  __device__ Tiles(const Geometry& g, const Inputs<T, U>& in, int slots) : slots(slots), height(slots / kWidth) {
    int pixels = 0, rectangles = 0;
    bool in_order = g.Q == g.N;
    for (int l = 0; l < g.L; ++l) {
      in_order = in_order && in.start(l) == pixels;
      pixels += in.height(l) * in.width(l);
      rectangles += rows(in.height(l)) * columns(in.width(l));
    }
    if (!in_order || pixels != g.N) height = 0;
    count = height ? rectangles : (int(g.Q) + slots - 1) / slots;
  }

  __device__ int rows(int H) const { return height ? unsigned(H + height - 1) / height : 0; }
  __device__ int columns(int W) const { return (W + kWidth - 1) / kWidth; }

  /// The query in a slot of a tile, or -1.
  template <class T, class U>
  __device__ int query(const Geometry& g, const Inputs<T, U>& in, int tile, int slot) const {
    if (!height) return tile * slots + slot < g.Q ? tile * slots + slot : -1;
    int l = 0;
    for (int tiles; tile >= (tiles = rows(in.height(l)) * columns(in.width(l))); ++l) tile -= tiles;
    const int H = in.height(l), W = in.width(l);
    const int y = tile / columns(W) * height + slot / kWidth, x = tile % columns(W) * kWidth + slot % kWidth;
    return y < H && x < W ? int(in.start(l)) + y * W + x : -1;
  }
};

}  // namespace dyhead::ms_deform_attn

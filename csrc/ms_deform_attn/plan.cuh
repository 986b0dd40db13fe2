// The plan that a block lays down in shared memory before it samples: which rows, and how much of each.
//
// All channels of a head read the same places. Working out a place once per sample instead of once per
// channel takes the coordinate arithmetic out of the inner loop.
#pragma once

#include "ms_deform_attn/tiles.cuh"

namespace dyhead::ms_deform_attn {

/// Threads of a block, and how they are dealt out: `lanes` neighbouring threads share a (query, head) pair
/// and hold a 16-byte pack of channels each.
struct Team {
  int lanes, slots;

  template <class T>
  static HOST_DEVICE Team of(const Geometry& g, int threads_at_most = 256, int slots_at_most = 64) {
    const int lanes = int(g.D) / Pack16<T>::size;
    const int slots = threads_at_most / lanes;
    return {lanes, slots < slots_at_most ? slots : slots_at_most};
  }
  HOST_DEVICE int threads() const { return lanes * slots; }
};

/// A block's plan for one tile: for every slot its query, for every sample of a chunk the four corners.
struct Plan {
  static constexpr int kChunk = 16;           // samples per slot that are planned at a time
  static constexpr int kStride = kChunk + 1;  // one spare, so that slots start in different banks

  Pack<int, 4>* offsets;    // where the corner's first channel lies, from the head's own; -1: outside
  Pack<float, 4>* weights;  // bilinear weight times attention weight
  int* queries;             // per slot; -1: empty

  __device__ Plan(void* shared, int slots) {
    offsets = static_cast<Pack<int, 4>*>(shared);
    weights = reinterpret_cast<Pack<float, 4>*>(offsets + slots * kStride);
    queries = reinterpret_cast<int*>(weights + slots * kStride);
  }
  static size_t bytes(int slots) { return size_t(slots) * (kStride * 32 + sizeof(int)); }
};

/// Number of the sample at place `n` of a query's head, in the order of attention_weights.
__device__ inline int64_t sample_number(const Geometry& g, int64_t b, int64_t q, int64_t m, int n) {
  return ((b * g.Q + q) * g.M + m) * g.L * g.P + n;
}

/// All threads of the block together plan samples first .. first + kChunk - 1 of every slot.
template <class T, class U>
__device__ void plan_chunk(const Geometry& g, const Inputs<T, U>& in, const Plan& plan, const Team& team,
                           int64_t b, int64_t m, int first) {
  for (int i = threadIdx.x; i < team.slots * Plan::kChunk; i += team.threads()) {
    const int slot = i / Plan::kChunk, n = first + i % Plan::kChunk;
    if (plan.queries[slot] < 0 || n >= g.L * g.P) continue;
    const int l = n / g.P, H = in.height(l), W = in.width(l);
    const int64_t s = sample_number(g, b, plan.queries[slot], m, n);
    const Cell<float> cell = in.template cell<float>(s, H, W);
    const float attention = widen(load(in.attention_weights, s));
    Pack<int, 4> offsets;
    Pack<float, 4> weights;
    for (int corner = 0; corner < 4; ++corner) {
      const int y = corner / 2, x = corner % 2;
      const int64_t pixel = in.start(l) + int64_t(cell.top + y) * W + cell.left + x;
      offsets.at[corner] = cell.has(y, x, H, W) ? int(pixel * g.M * g.D) : -1;
      weights.at[corner] = attention * cell.weight(y, x);
    }
    plan.offsets[slot * Plan::kStride + i % Plan::kChunk] = offsets;
    plan.weights[slot * Plan::kStride + i % Plan::kChunk] = weights;
  }
}

/// The pack of channels at corner `offset` of a head whose first element is `base`; zeros outside.
template <class T>
__device__ inline Pack16<T> read_corner(const Global<const T>& value, int64_t base, int offset) {
  return offset >= 0 ? load_pack<Pack16<T>>(value, base + offset) : Pack16<T>{};
}

/// A block's work, tile after tile and head after head: call `work(b, m, tile)` for its share.
template <class Work>
__device__ void for_each_tile(const Geometry& g, const Tiles& tiles, const Work& work) {
  for (int64_t i = blockIdx.x; i < tiles.count * g.B * g.M; i += gridDim.x)
    work(i / g.M / tiles.count, i % g.M, i / g.M % tiles.count);
}

}  // namespace dyhead::ms_deform_attn

// The plan that a block lays down in shared memory before it samples: which rows, and how much of each.
//
// All channels of a head read the same places. Working out a place once per sample instead of once per channel takes
// the coordinate arithmetic out of the inner loop.
#pragma once

#include "common/words.cuh"
#include "ms_deform_attn/tiles.cuh"

namespace dyhead::ms_deform_attn {

/// Threads of a block, and how they are dealt out: `lanes` neighbouring threads share a (query, head) pair and hold a
/// 16 bytes of channels each.
struct Team {
  static constexpr int kMostThreads = 256, kMostSlots = 64;
  int lanes, slots;

  template <class T>
  static HOST_DEVICE Team of(const Geometry& g) {
    const int lanes = int(g.D) / kPerWords<T>, slots = kMostThreads / lanes;
    return {lanes, slots < kMostSlots ? slots : kMostSlots};
  }
  HOST_DEVICE int threads() const { return lanes * slots; }
};

/// A block's plan for one tile: for every slot its query, for every sample of a chunk the four corners.
struct Plan {
  static constexpr int kChunk = 8;            // samples per slot that are planned at a time
  static constexpr int kStride = kChunk + 1;  // one spare, so that slots start in different banks

  struct alignas(16) Offsets {
    int at[4];
  };
  struct alignas(16) Weights {
    float at[4];
  };

  Offsets* offsets;  // where the corner's first channel lies, from the head's own; -1: outside
  Weights* weights;  // bilinear weight times attention weight
  int* queries;      // per slot; -1: empty

  __device__ Plan(void* shared, int slots) {
    offsets = static_cast<Offsets*>(shared);
    weights = reinterpret_cast<Weights*>(offsets + slots * kStride);
    queries = reinterpret_cast<int*>(weights + slots * kStride);
  }
  static constexpr size_t bytes(int slots) { return size_t(slots) * (kStride * 32 + sizeof(int)); }
};

/// Five blocks, and the kilobyte that a GPU keeps for each, fit the 100 KB of a multiprocessor of compute
/// capability 8.6, 8.9 or 12.0.
static_assert(5 * (Plan::bytes(Team::kMostSlots) + 1024) <= 100 * 1024);

/// Number of the sample at place `n` of a query's head, in the order of attention_weights.
__device__ inline int64_t sample_number(const Geometry& g, int64_t b, int64_t q, int64_t m, int n) {
  return ((b * g.Q + q) * g.M + m) * g.L * g.P + n;
}

/// All threads of the block together plan samples first .. first + kChunk - 1 of every slot.
template <class T, class U>
__device__ void plan_chunk(const Geometry& g, const Inputs<T, U>& in, const Plan& plan, const Team& team, int64_t b,
                           int64_t m, int first) {
  for (int i = threadIdx.x; i < team.slots * Plan::kChunk; i += team.threads()) {
    const int slot = i / Plan::kChunk, n = first + i % Plan::kChunk;
    Plan::Offsets offsets{{-1, -1, -1, -1}};
    Plan::Weights weights{};
    if (plan.queries[slot] >= 0 && n < g.L * g.P) {
      const int l = n / g.P, H = in.height(l), W = in.width(l);
      const int64_t s = sample_number(g, b, plan.queries[slot], m, n);
      const Cell<float> cell = in.template cell<float>(s, H, W);
      const float attention = widen(load(in.attention_weights, s));
      const int corner = int(in.start(l)) + cell.top * W + cell.left, row_size = int(g.M * g.D);
      for (int k = 0; k < 4; ++k) {
        if (cell.has(k / 2, k % 2, H, W)) offsets.at[k] = (corner + k / 2 * W + k % 2) * row_size;
        weights.at[k] = attention * cell.weight(k / 2, k % 2);
      }
    }
    plan.offsets[slot * Plan::kStride + i % Plan::kChunk] = offsets;
    plan.weights[slot * Plan::kStride + i % Plan::kChunk] = weights;
  }
}

/// A block's work, tile after tile and head after head: call `work(b, m, tile)` for its share.
template <class Work>
__device__ void for_each_tile(const Geometry& g, const Tiles& tiles, const Work& work) {
  const int B = int(g.B), M = int(g.M);
  for (int i = blockIdx.x; i < tiles.count * B * M; i += gridDim.x)
    work(i / M / tiles.count, i % M, i / M % tiles.count);
}

}  // namespace dyhead::ms_deform_attn

// The fast kernels: a few lanes share a (query, head) pair, read 16 bytes each, and follow a plan in shared memory.
//
// They need channels that are whole words of 16 bytes; `is_fast` knows. Sums are kept in float32.
#pragma once

#include "ms_deform_attn/planned_samples.cuh"

namespace dyhead::ms_deform_attn {

/// A thread computes 16 bytes of output channels: the weighted sum of these channels at all corners of the plan.
template <class T, class U>
__global__ void __launch_bounds__(Team::kMostThreads) forward_fast(Geometry g, Inputs<T, U> in, Global<T> output) {
  DYNAMIC_SHARED(char, shared);
  const Team team = Team::of<T>(g);
  const Plan plan(shared, team.slots);
  const Tiles tiles(g, in, team.slots);
  const int slot = threadIdx.x / team.lanes, d = threadIdx.x % team.lanes * kPerWords<T>;
  for_each_tile(g, tiles, [&](int64_t b, int64_t m, int tile) {
    if (int(threadIdx.x) < team.slots) plan.queries[threadIdx.x] = tiles.query(g, in, tile, threadIdx.x);
    __syncthreads();
    const int64_t base = (b * g.N * g.M + m) * g.D + d;
    const int64_t q = plan.queries[slot];
    float sum[kPerWords<T>] = {};
    for (int first = 0; first < g.L * g.P; first += Plan::kChunk) {
      plan_chunk(g, in, plan, team, b, m, first);
      __syncthreads();
      const int count = min(Plan::kChunk, g.L * g.P - first);
      for (int n = 0; n < count; ++n) add_sample<T>(in.value, plan, slot * Plan::kStride + n, base, sum);
      __syncthreads();
    }
    if (q >= 0) store_words(output, ((b * g.Q + q) * g.M + m) * g.D + d, pack<T>(sum));
  });
}

/// A thread owns 16 bytes of an output gradient. For every corner of the plan it adds its share to the gradient of the
/// value, and its lanes together form the product of value and gradient; from these products follow the gradients of
/// locations and weights.
template <class T, class U>
__global__ void __launch_bounds__(Team::kMostThreads)
    backward_fast(Geometry g, Inputs<T, U> in, Global<const T> grad_output, Global<float> grad_value,
                  Global<U> grad_locations, Global<U> grad_weights) {
  DYNAMIC_SHARED(char, shared);
  const Team team = Team::of<T>(g);
  const Plan plan(shared, team.slots);
  const Tiles tiles(g, in, team.slots);
  const int slot = threadIdx.x / team.lanes, d = threadIdx.x % team.lanes * kPerWords<T>;
  for_each_tile(g, tiles, [&](int64_t b, int64_t m, int tile) {
    if (int(threadIdx.x) < team.slots) plan.queries[threadIdx.x] = tiles.query(g, in, tile, threadIdx.x);
    __syncthreads();
    const int64_t base = (b * g.N * g.M + m) * g.D + d;
    const int64_t q = plan.queries[slot];
    float grad[kPerWords<T>] = {};
    unpack<T>(load_words<4>(grad_output, ((b * g.Q + q) * g.M + m) * g.D + d, q >= 0), grad);
    for (int first = 0; first < g.L * g.P; first += Plan::kChunk) {
      plan_chunk(g, in, plan, team, b, m, first);
      __syncthreads();
      const int count = min(Plan::kChunk, g.L * g.P - first);
      for (int n = 0; n < count; ++n)
        scatter_sample<T>(in.value, grad_value, plan, slot * Plan::kStride + n, base, grad, team.lanes);
      __syncthreads();
      finish_chunk(g, in, plan, team, b, m, first, grad_locations, grad_weights);
      __syncthreads();
    }
  });
}

/// The launch of a fast kernel: as many blocks as the GPU holds at a time, which then go through the tiles.
template <class T>
Launch by_tiles(const Geometry& g, void* stream) {
  const Team team = Team::of<T>(g);
  const int64_t tiles = (g.Q + team.slots - 1) / team.slots * g.B * g.M;
  const int64_t blocks = std::min<int64_t>(tiles, resident_blocks(team.threads()));
  return {dim3(unsigned(blocks)), dim3(unsigned(team.threads())), stream, Plan::bytes(team.slots)};
}

}  // namespace dyhead::ms_deform_attn

// What the fast kernels do with one sample: gather it, scatter its gradient, finish its own gradients.
#pragma once

#include "ms_deform_attn/plan.cuh"

namespace dyhead::ms_deform_attn {

/// sum += corner weights times the packs at the four corners of the planned sample `at`.
template <class T>
__device__ inline void add_sample(const Global<const T>& value, const Plan& plan, int at, int64_t base,
                                  float (&sum)[Pack16<T>::size]) {
  const Pack<int, 4> offsets = plan.offsets[at];
  const Pack<float, 4> weights = plan.weights[at];
  Pack16<T> corner[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) corner[i] = read_corner(value, base, offsets.at[i]);
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < Pack16<T>::size; ++j) sum[j] += weights.at[i] * widen(corner[i].at[j]);
}

/// The warp's lanes that share this thread's pair.
__device__ inline unsigned lane_mask(int lanes) {
  return (lanes == 32 ? 0xffffffffu : (1u << lanes) - 1u) << (threadIdx.x % 32 / lanes * lanes);
}

/// Sum `value` over the `lanes` neighbouring threads of a pair; every one of them receives the sum.
__device__ inline float sum_over_lanes(float value, int lanes) {
  const unsigned mask = lane_mask(lanes);
  for (int step = lanes / 2; step > 0; step /= 2) value += __shfl_xor_sync(mask, value, step);
  return value;
}

/// Add a share of `grad` to the four corners of the planned sample `at`. Afterwards the plan holds, in place
/// of the corner weights, the products of `grad` with the values at the corners.
template <class T>
__device__ inline void scatter_sample(const Global<const T>& value, const Global<float>& grad_value,
                                      const Plan& plan, int at, int64_t base,
                                      const float (&grad)[Pack16<T>::size], int lanes) {
  const Pack<int, 4> offsets = plan.offsets[at];
  const Pack<float, 4> weights = plan.weights[at];
  Pack16<T> corner[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) corner[i] = read_corner(value, base, offsets.at[i]);
  Pack<float, 4> products;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    float product = 0;
#pragma unroll
    for (int j = 0; j < Pack16<T>::size; ++j) product += grad[j] * widen(corner[i].at[j]);
    products.at[i] = sum_over_lanes(product, lanes);
    if (offsets.at[i] < 0) continue;
#pragma unroll
    for (int j = 0; j < Pack16<T>::size; j += 4) {
      const float share[4] = {weights.at[i] * grad[j], weights.at[i] * grad[j + 1],
                              weights.at[i] * grad[j + 2], weights.at[i] * grad[j + 3]};
      atomic_add4(grad_value, base + offsets.at[i] + j, share);
    }
  }
  __syncwarp(lane_mask(lanes));  // all have read the weights
  if (threadIdx.x % lanes == 0) plan.weights[at] = products;
}

/// All threads of the block together turn the products in the plan into gradients of locations and weights.
template <class T, class U>
__device__ void finish_chunk(const Geometry& g, const Inputs<T, U>& in, const Plan& plan, const Team& team,
                             int64_t b, int64_t m, int first, const Global<U>& grad_locations,
                             const Global<U>& grad_weights) {
  for (int i = threadIdx.x; i < team.slots * Plan::kChunk; i += team.threads()) {
    const int slot = i / Plan::kChunk, n = first + i % Plan::kChunk;
    if (plan.queries[slot] < 0 || n >= g.L * g.P) continue;
    const int l = n / g.P, H = in.height(l), W = in.width(l);
    const int64_t s = sample_number(g, b, plan.queries[slot], m, n);
    const Cell<float> cell = in.template cell<float>(s, H, W);
    const float attention = widen(load(in.attention_weights, s));
    const Pack<float, 4>& product = plan.weights[slot * Plan::kStride + i % Plan::kChunk];
    const float corner[2][2] = {{product.at[0], product.at[1]}, {product.at[2], product.at[3]}};
    store(grad_weights, s, narrow<U>(cell.value(corner)));
    store(grad_locations, 2 * s, narrow<U>(attention * cell.slope_x(corner) * W));
    store(grad_locations, 2 * s + 1, narrow<U>(attention * cell.slope_y(corner) * H));
  }
}

template <class T>
__device__ inline Pack16<T> narrow_pack(const float (&from)[Pack16<T>::size]) {
  Pack16<T> pack;
#pragma unroll
  for (int j = 0; j < Pack16<T>::size; ++j) pack.at[j] = narrow<T>(from[j]);
  return pack;
}

template <class T>
__device__ inline void widen_pack(const Pack16<T>& pack, float (&to)[Pack16<T>::size]) {
#pragma unroll
  for (int j = 0; j < Pack16<T>::size; ++j) to[j] = widen(pack.at[j]);
}

}  // namespace dyhead::ms_deform_attn

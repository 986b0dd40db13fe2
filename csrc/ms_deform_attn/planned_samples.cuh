// What the fast kernels do with one sample: gather it, scatter its gradient, finish its own gradients.
#pragma once

#include "ms_deform_attn/plan.cuh"

namespace dyhead::ms_deform_attn {

/// The channels at the four corners of a planned sample; zeros outside.
template <class T>
struct CornerWords {
  Words16 at[4];

  __device__ CornerWords(const Global<const T>& value, int64_t base, const Plan::Offsets& offsets) {
#pragma unroll
    for (int i = 0; i < 4; ++i) at[i] = load_words<4>(value, base + offsets.at[i], offsets.at[i] >= 0);
  }
};

/// sum += corner weights times the channels at the four corners of the planned sample `at`.
template <class T>
__device__ inline void add_sample(const Global<const T>& value, const Plan& plan, int at, int64_t base,
                                  float (&sum)[kPerWords<T>]) {
  const CornerWords<T> corners(value, base, plan.offsets[at]);
  const Plan::Weights weights = plan.weights[at];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    float channel[kPerWords<T>];
    unpack<T>(corners.at[i], channel);
#pragma unroll
    for (int j = 0; j < kPerWords<T>; ++j) sum[j] += weights.at[i] * channel[j];
  }
}

/// Sum the products over the `lanes` neighbouring threads of a pair; every one of them receives the sums.
__device__ inline void sum_over_lanes(float (&products)[4], int lanes) {
  for (int step = lanes / 2; step > 0; step /= 2)
#pragma unroll
    for (int i = 0; i < 4; ++i) products[i] += __shfl_xor_sync(0xffffffffu, products[i], step);
}

/// Add a share of `grad` to the four corners of the planned sample `at`. Afterwards the plan holds, in place of the
/// corner weights, the products of `grad` with the channels at the corners.
template <class T>
__device__ inline void scatter_sample(const Global<const T>& value, const Global<float>& grad_value, const Plan& plan,
                                      int at, int64_t base, const float (&grad)[kPerWords<T>], int lanes) {
  const Plan::Offsets offsets = plan.offsets[at];
  const Plan::Weights weights = plan.weights[at];
  const CornerWords<T> corners(value, base, offsets);
  float products[4] = {};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    float channel[kPerWords<T>];
    unpack<T>(corners.at[i], channel);
#pragma unroll
    for (int j = 0; j < kPerWords<T>; ++j) products[i] += grad[j] * channel[j];
    if (offsets.at[i] < 0) continue;
#pragma unroll
    for (int j = 0; j < kPerWords<T>; j += 4) {
      const float w = weights.at[i];
      const float share[4] = {w * grad[j], w * grad[j + 1], w * grad[j + 2], w * grad[j + 3]};
      atomic_add4(grad_value, base + offsets.at[i] + j, share);
    }
  }
  sum_over_lanes(products, lanes);
  __syncwarp();  // all have read the weights
  if (threadIdx.x % lanes == 0) plan.weights[at] = {{products[0], products[1], products[2], products[3]}};
}

/// All threads of the block together turn the products in the plan into gradients of locations and weights.
template <class T, class U>
__device__ void finish_chunk(const Geometry& g, const Inputs<T, U>& in, const Plan& plan, const Team& team, int64_t b,
                             int64_t m, int first, const Global<U>& grad_locations, const Global<U>& grad_weights) {
  for (int i = threadIdx.x; i < team.slots * Plan::kChunk; i += team.threads()) {
    const int slot = i / Plan::kChunk, n = first + i % Plan::kChunk;
    if (plan.queries[slot] < 0 || n >= g.L * g.P) continue;
    const int l = n / g.P, H = in.height(l), W = in.width(l);
    const int64_t s = sample_number(g, b, plan.queries[slot], m, n);
    const Cell<float> cell = in.template cell<float>(s, H, W);
    const float attention = widen(load(in.attention_weights, s));
    const Plan::Weights& product = plan.weights[slot * Plan::kStride + i % Plan::kChunk];
    const float corner[2][2] = {{product.at[0], product.at[1]}, {product.at[2], product.at[3]}};
    store(grad_weights, s, narrow<U>(cell.value(corner)));
    store(grad_locations, 2 * s, narrow<U>(attention * cell.slope_x(corner) * W));
    store(grad_locations, 2 * s + 1, narrow<U>(attention * cell.slope_y(corner) * H));
  }
}

}  // namespace dyhead::ms_deform_attn

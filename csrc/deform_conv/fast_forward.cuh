// The fast forward kernel: an implicit matrix product. The matrix of samples never exists in memory; a block samples
// the part that it needs next while the tensor cores work on the part before.
//
// Here the input is channels-last, (B, H, W, C), and the weight is (Co, K, C).
#pragma once

#include "deform_conv/gather.cuh"

namespace dyhead::deform_conv {

constexpr int kOutputs = 256;  // output channels of a block

/// Two stages in shared memory: while one is multiplied the other is filled.
template <int kPixels>
struct ForwardStage {
  SharedTile weights, samples;

  static constexpr int kBytes = (kOutputs + kPixels) * kRowBytes;
  __device__ ForwardStage(char* shared, int stage)
      : weights{shared + stage * kBytes}, samples{weights.data + kOutputs * kRowBytes} {}
};

/// Begin to copy the weights of one step for output channels first .. first + kOutputs - 1.
template <class T, int kThreads>
__device__ inline void copy_weights(const Geometry& g, const Global<const T>& weight, const SharedTile& tile, int first,
                                    int k, int c) {
  const int pack = threadIdx.x % kRowPacks, row_size = g.K() * int(g.C);
#pragma unroll
  for (int i = 0; i < kOutputs * kRowPacks / kThreads; ++i) {
    const int row = threadIdx.x / kRowPacks + i * (kThreads / kRowPacks), o = first + row;
    copy_async(tile.pack(row, pack), weight, o * row_size + k * int(g.C) + c + pack * kPerWords<T>, o < g.Co);
  }
}

/// The sums of kOutputs output channels at kPixels pixels, over the steps from `next` on. A thread samples 16 bytes of
/// channels per step, for a pixel that stays its own, and holds 64 sums of the product. Calls `visit(r, o, sum)` for
/// each.
template <class T, class Factors, int kPixels, class Steps, class Visit>
__device__ inline void multiply_samples(const Geometry& g, const Inputs<T>& in, Steps next, const Visit& visit) {
  DYNAMIC_SHARED(char, shared);
  const int first_pixel = blockIdx.x * kPixels, first_output = blockIdx.y * kOutputs;
  const int my_row = threadIdx.x / kRowPacks, my_pack = threadIdx.x % kRowPacks;
  const uint32_t r = first_pixel + my_row, plane = uint32_t(g.So());  // 32-bit division is cheap
  Corners corners;
  CornerWords<T> samples;
  const auto begin = [&](const ForwardStage<kPixels>& stage) {
    copy_weights<T, 4 * kPixels>(g, in.weight, stage.weights, first_output, next.k, next.channel(g));
    if (next.opens_tap()) {
      corners.clear();
      if (r < all_pixels(g)) corners.find(g, in, {r / plane, next.group, next.k, r % plane});
    }
    samples.load(in.input, corners, next.channel(g) + my_pack * kPerWords<T>);
    next.advance(g);
  };
  const auto finish = [&](const ForwardStage<kPixels>& stage) {
    *static_cast<Words16*>(stage.samples.pack(my_row, my_pack)) = samples.template blend<Factors>(corners);
    wait_for_copies();
    __syncthreads();
  };

  WarpSums sums;
  ForwardStage<kPixels> stage(shared, 0), other(shared, 1);
  begin(stage);
  finish(stage);
  for (bool more = true; more;) {
    more = next.exists(g);
    if (more) begin(other);
    if (first_output + WarpSums::first_row() < g.Co) sums.multiply<Factors>(stage.weights, stage.samples);
    if (more) finish(other);
    const ForwardStage<kPixels> used = stage;
    stage = other, other = used;
  }
  sums.for_each([&](int row, int column, float sum) {
    const int o = first_output + row;
    const uint32_t r = first_pixel + column;
    if (o < g.Co && r < all_pixels(g)) visit(r, o, sum);
  });
}

/// A block computes kOutputs output channels of kPixels pixels.
template <class T, class Factors, int kPixels>
__global__ void __launch_bounds__(4 * kPixels, 128 / kPixels)
    implicit_product(Geometry g, Inputs<T> in, Global<T> output) {
  const uint32_t plane = uint32_t(g.So());
  multiply_samples<T, Factors, kPixels>(g, in, Step<T>(), [&](uint32_t r, int o, float sum) {
    store(output, g.output_at(r / plane, o, r % plane), narrow<T>(sum));
  });
}

/// A block computes the share of some taps in them: the taps are split among gridDim.z blocks. `parts`: (gridDim.z,
/// pixels, Co).
template <class T, class Factors, int kPixels>
__global__ void __launch_bounds__(4 * kPixels, 128 / kPixels)
    product_of_some_taps(Geometry g, Inputs<T> in, Global<float> parts) {
  const int taps = g.G * g.K(), first = int(blockIdx.z) * taps / int(gridDim.z);
  const StepOfSome<T> next(g, first, int(blockIdx.z + 1) * taps / int(gridDim.z));
  multiply_samples<T, Factors, kPixels>(g, in, next, [&](uint32_t r, int o, float sum) {
    store(parts, (blockIdx.z * all_pixels(g) + r) * g.Co + o, sum);
  });
}

/// A thread adds the shares of one output, in the order of the taps.
template <class T>
__global__ void add_forward_parts(Geometry g, int count, Global<const float> parts, Global<T> output) {
  const int64_t outputs = all_pixels(g) * g.Co;
  for (int64_t i = thread_number(); i < outputs; i += thread_count()) {
    float sum = 0;
    for (int part = 0; part < count; ++part) sum += load(parts, part * outputs + i);
    const int64_t r = i / g.Co;
    store(output, g.output_at(r / g.So(), i % g.Co, r % g.So()), narrow<T>(sum));
  }
}

/// The launch of a product. Large tiles read the weights less often; small ones keep more of the GPU busy.
template <int kPixels>
Launch by_pixels(const Geometry& g, void* stream) {
  constexpr size_t kBytes = 2 * ForwardStage<kPixels>::kBytes;
  static_assert(kBytes <= kMostSharedBytes);
  const dim3 blocks(unsigned((all_pixels(g) + kPixels - 1) / kPixels), unsigned((g.Co + kOutputs - 1) / kOutputs));
  return {blocks, dim3(4 * kPixels), stream, kBytes};
}

}  // namespace dyhead::deform_conv

// The fast forward kernel: an implicit matrix product. The matrix of samples never exists in memory; a block
// samples the part that it needs next while the tensor cores work on the part before.
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
__device__ inline void copy_weights(const Geometry& g, const Global<const T>& weight, const SharedTile& tile,
                                    int64_t first, int k, int64_t c) {
#pragma unroll
  for (int i = 0; i < kOutputs * kRowPacks / kThreads; ++i) {
    const int row = (threadIdx.x + i * kThreads) / kRowPacks, pack = threadIdx.x % kRowPacks;
    const int64_t o = first + row;
    copy_async(tile.pack(row, pack), weight, (o * g.K() + k) * g.C + c + pack * Pack16<T>::size, o < g.Co);
  }
}

/// A block computes kOutputs output channels of kPixels pixels. A thread samples one pack of channels per
/// step, for a pixel that stays its own, and holds 64 sums of the product.
template <class T, int kPixels>
__global__ void __launch_bounds__(4 * kPixels) implicit_product(Geometry g, Inputs<T> in, Global<T> output) {
  DYNAMIC_SHARED(char, shared);
  constexpr int kThreads = kPixels * kRowPacks;
  const int64_t first_pixel = int64_t(blockIdx.x) * kPixels, first_output = int64_t(blockIdx.y) * kOutputs;
  const int my_row = threadIdx.x / kRowPacks, my_pack = threadIdx.x % kRowPacks;
  const int64_t r = first_pixel + my_row, b = r / g.So(), p = r % g.So();
  const Steps<T> steps(g);
  Corners corners;
  CornerPacks<T> packs;
  const auto begin = [&](int step) {
    const ForwardStage<kPixels> stage(shared, step % 2);
    copy_weights<T, kThreads>(g, in.weight, stage.weights, first_output, steps.tap(step),
                              steps.channel(step));
    if (steps.opens_tap(step)) {
      if (r < all_pixels(g))
        corners.find(g, in, {b, steps.group(step), steps.tap(step), p});
      else
        corners.clear();
    }
    packs.load(in.input, corners, steps.channel(step) + my_pack * Pack16<T>::size);
  };
  const auto finish = [&](int step) {
    const ForwardStage<kPixels> stage(shared, step % 2);
    *static_cast<Pack16<T>*>(stage.samples.pack(my_row, my_pack)) = packs.blend(corners);
    wait_for_copies();
    __syncthreads();
  };

  WarpSums sums;
  begin(0);
  finish(0);
  for (int step = 0; step < steps.count; ++step) {
    const bool has_next = step + 1 < steps.count;
    if (has_next) begin(step + 1);
    const ForwardStage<kPixels> stage(shared, step % 2);
    if (first_output + WarpSums::first_row() < g.Co) sums.multiply<T>(stage.weights, stage.samples);
    if (has_next) finish(step + 1);
  }
  sums.for_each([&](int row, int column, float sum) {
    const int64_t o = first_output + row;
    const uint32_t r = uint32_t(first_pixel) + column, plane = uint32_t(g.So());  // 32-bit division is cheap
    if (o < g.Co && r < all_pixels(g))
      store(output, (r / plane * g.Co + o) * g.So() + r % plane, narrow<T>(sum));
  });
}

/// The launch of `implicit_product`. Large tiles read the weights less often; small ones keep more of the GPU
/// busy.
template <int kPixels>
Launch by_pixels(const Geometry& g, void* stream) {
  const dim3 blocks(unsigned((all_pixels(g) + kPixels - 1) / kPixels),
                    unsigned((g.Co + kOutputs - 1) / kOutputs));
  return {blocks, dim3(4 * kPixels), stream, 2 * ForwardStage<kPixels>::kBytes};
}

}  // namespace dyhead::deform_conv

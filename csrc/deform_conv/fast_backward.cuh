// The fast backward kernel for input, offset and mask: a matrix product whose result, the gradient of the samples, is
// used where it arises and never written to memory.
//
// Here the input and its gradient are channels-last, (B, H, W, C), the output gradient is (B, Ho, Wo, Co) and the
// weight is (C, K, Co).
#pragma once

#include "deform_conv/gather.cuh"

namespace dyhead::deform_conv {

constexpr int kBackwardThreads = 256, kBackwardPixels = WarpSums::kColumns;
constexpr int kChannels = WarpSums::kRows * WarpSums::kWarpsOfRows;  // of one product
constexpr int kRound = 64;                                           // channels that are scattered at a time

/// What the kernel reads and writes beside the arguments.
template <class T>
struct BackwardArrays {
  Global<const T> grad_output;
  Global<float> grad_input, grad_offset, grad_mask;
};

/// Two stages in shared memory, the corners of the block's pixels, and, over the stages, gradients of samples.
struct BackwardShared {
  static constexpr int kStageBytes = (kChannels + kBackwardPixels) * kRowBytes;
  static constexpr int kSampleStride = kRound + 4;  // four spare, so that pixels start in different banks
  static constexpr size_t kBytes = 2 * kStageBytes + kBackwardPixels * sizeof(Corners);
  static_assert(kBytes <= kMostSharedBytes && kBackwardPixels * kSampleStride * sizeof(float) <= 2 * kStageBytes);
  char* data;

  __device__ SharedTile weights(int step) const { return {data + step % 2 * kStageBytes}; }
  __device__ SharedTile grads(int step) const { return {weights(step).data + kChannels * kRowBytes}; }
  __device__ Corners* corners() const { return reinterpret_cast<Corners*>(data + 2 * kStageBytes); }
  __device__ float* samples(int pixel) const { return reinterpret_cast<float*>(data) + pixel * kSampleStride; }
};

/// The block's share of the work: one tap, a run of pixels.
struct TapOfPixels {
  int group, k, first_pixel, first_channel, end_channel;

  __device__ explicit TapOfPixels(const Geometry& g) {
    group = int(blockIdx.y) / g.K(), k = int(blockIdx.y) % g.K();
    first_pixel = int(blockIdx.x) * kBackwardPixels;
    const int size = int(g.offset_group_channels());
    first_channel = group * size, end_channel = first_channel + size;
  }
};

/// Begin to copy the operands of one step: weights of kChannels channels from c on, gradients of the pixels.
template <class T>
__device__ inline void copy_operands(const Geometry& g, const Inputs<T>& in, const Global<const T>& grad_output,
                                     const BackwardShared& shared, const TapOfPixels& my, int c, int step) {
  const int pack = threadIdx.x % kRowPacks, first_row = threadIdx.x / kRowPacks;
  const int Co = int(g.Co), o = step * kStep<T> + pack * kPerWords<T>;
#pragma unroll
  for (int row = first_row; row < kChannels; row += kBackwardThreads / kRowPacks)
    copy_async(shared.weights(step).pack(row, pack), in.weight, ((c + row) * g.K() + my.k) * Co + o,
               c + row < my.end_channel && o < Co);
  const int r = my.first_pixel + first_row;
  copy_async(shared.grads(step).pack(first_row, pack), grad_output, r * g.Co + o, r < all_pixels(g) && o < Co);
}

/// Gradients of the samples: channels c .. c + kChannels - 1 times the block's pixels.
template <class Factors, class T>
__device__ inline WarpSums sample_gradients(const Geometry& g, const Inputs<T>& in, const Global<const T>& grad_output,
                                            const BackwardShared& shared, const TapOfPixels& my, int c) {
  const int steps = (int(g.Co) + kStep<T> - 1) / kStep<T>;
  WarpSums sums;
  copy_operands(g, in, grad_output, shared, my, c, 0);
  for (int step = 0; step < steps; ++step) {
    wait_for_copies();
    __syncthreads();
    if (step + 1 < steps) copy_operands(g, in, grad_output, shared, my, c, step + 1);
    if (c + WarpSums::first_row() < my.end_channel) sums.multiply<Factors>(shared.weights(step), shared.grads(step));
  }
  __syncthreads();
  return sums;
}

/// Four channels of one pixel: add their shares to the input's gradient, and the products of their gradients with the
/// values at the corners to `products`. All four corners are asked for before the first is used: an atomic is a wall
/// that the compiler moves no read across.
template <class T>
__device__ inline void scatter_four(const Global<const T>& input, const Global<float>& grad_input,
                                    const Corners& corners, int c, const float* grad, float (&products)[4]) {
  constexpr int kWords = int(sizeof(T));  // four elements
  Words<kWords> words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) words[i] = load_words<kWords>(input, corners.offset[i] + c, corners.offset[i] >= 0);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (corners.offset[i] < 0) continue;
    float value[4];
    unpack<T>(words[i], value);
    const float weight = corners.weight[i];
    const float share[4] = {weight * grad[0], weight * grad[1], weight * grad[2], weight * grad[3]};
    atomic_add4(grad_input, corners.offset[i] + c, share);
#pragma unroll
    for (int j = 0; j < 4; ++j) products[i] += grad[j] * value[j];
  }
}

/// Lane 0 of the 16 threads that share a pixel writes the gradients of its offset and mask.
template <class T>
__device__ inline void finish_tap(const Geometry& g, const Inputs<T>& in, const BackwardArrays<T>& out, const Tap& tap,
                                  float (&products)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int step = 8; step > 0; step /= 2) products[i] += __shfl_xor_sync(0xffffffffu, products[i], step, 16);
  if (threadIdx.x % 16 != 0 || tap.b >= g.B) return;
  const Cell<float> cell = in.cell(g, tap);
  const float modulation = in.modulation(g, tap);
  const float corner[2][2] = {{products[0], products[1]}, {products[2], products[3]}};
  const int64_t at = in.offset_index(g, tap);
  store(out.grad_offset, at, modulation * cell.slope_y(corner));
  store(out.grad_offset, at + g.So(), modulation * cell.slope_x(corner));
  if (out.grad_mask.data) store(out.grad_mask, in.mask_index(g, tap), cell.value(corner));
}

/// A block does one tap of 64 pixels. Its threads form the gradients of the samples on the tensor cores, 256 channels
/// at a time; then 16 threads share a pixel, and each scatters four of 64 channels.
template <class T, class Factors>
__global__ void __launch_bounds__(kBackwardThreads, 2)
    scatter_product(Geometry g, Inputs<T> in, BackwardArrays<T> arrays) {
  DYNAMIC_SHARED(char, memory);
  const BackwardShared shared{memory};
  const TapOfPixels my(g);
  const auto tap_of = [&](int pixel) {
    const uint32_t r = my.first_pixel + pixel, plane = uint32_t(g.So());  // 32-bit division is cheap
    return Tap{r / plane, my.group, my.k, r % plane};
  };
  if (threadIdx.x < kBackwardPixels) {
    Corners& corners = shared.corners()[threadIdx.x];
    const Tap tap = tap_of(threadIdx.x);
    tap.b < g.B ? corners.find(g, in, tap) : corners.clear();
  }
  constexpr int kPixelsOfThread = kBackwardPixels / (kBackwardThreads / 16);
  float products[kPixelsOfThread][4] = {};
  for (int c = my.first_channel; c < my.end_channel; c += kChannels) {
    const WarpSums sums = sample_gradients<Factors>(g, in, arrays.grad_output, shared, my, c);
    for (int round = 0; round < kChannels && c + round < my.end_channel; round += kRound) {
      sums.for_each([&](int row, int column, float sum) {
        if (row / kRound * kRound == round) shared.samples(column)[row % kRound] = sum;
      });
      __syncthreads();
      const int channel = threadIdx.x % 16 * 4;
#pragma unroll
      for (int i = 0; i < kPixelsOfThread; ++i) {
        const int pixel = threadIdx.x / 16 + 16 * i;
        if (c + round + channel < my.end_channel)
          scatter_four(in.input, arrays.grad_input, shared.corners()[pixel], c + round + channel,
                       shared.samples(pixel) + channel, products[i]);
      }
      __syncthreads();
    }
  }
#pragma unroll
  for (int i = 0; i < kPixelsOfThread; ++i) finish_tap(g, in, arrays, tap_of(threadIdx.x / 16 + 16 * i), products[i]);
}

}  // namespace dyhead::deform_conv

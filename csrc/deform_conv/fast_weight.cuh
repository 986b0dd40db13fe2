// The fast kernels for the gradient of the weight: a matrix product summed over pixels, cut into parts that are added
// in a fixed order. Without atomics, so it is bit-equal from run to run.
//
// Here the input is channels-last, (B, H, W, C); the output gradient is as Geometry says.
#pragma once

#include "deform_conv/gather.cuh"

namespace dyhead::deform_conv {

constexpr int kWeightThreads = 256, kWeightBlocksAtOnce = 2;  // on a multiprocessor
constexpr int kWeightOutputs = WarpSums::kRows * WarpSums::kWarpsOfRows, kWeightChannels = WarpSums::kColumns;

/// The blocks of one part: taps and chunks of channels, chunks of outputs.
inline dim3 weight_blocks(const Geometry& g) {
  return dim3(unsigned(g.K() * ((g.C + kWeightChannels - 1) / kWeightChannels)),
              unsigned((g.Co + kWeightOutputs - 1) / kWeightOutputs));
}

/// A block sums, over one part of the pixels, the products of 256 outputs' gradients and 64 channels' samples at one
/// tap. A thread reads gradients of one pixel and samples 16 bytes of channels per step.
template <class T, class Factors>
__global__ void __launch_bounds__(kWeightThreads, kWeightBlocksAtOnce)
    weight_parts_fast(Geometry g, Inputs<T> in, Global<const T> grad_output, Global<float> parts) {
  DYNAMIC_SHARED(char, shared);
  const SharedTile grads{shared}, samples{shared + kWeightOutputs * kRowBytes};
  const int64_t chunks = (g.C + kWeightChannels - 1) / kWeightChannels;
  const int k = int(blockIdx.x / chunks), my_pixel = threadIdx.x % kStep<T>, my_row = threadIdx.x / kStep<T>;
  const int64_t first_output = int64_t(blockIdx.y) * kWeightOutputs;
  const int64_t first_channel = blockIdx.x % chunks * kWeightChannels;
  const int64_t c = first_channel + my_row * kPerWords<T>;
  const int64_t part_size = (all_pixels(g) + gridDim.z - 1) / gridDim.z;
  const int64_t begin = blockIdx.z * part_size, end = min(begin + part_size, all_pixels(g));
  WarpSums sums;
  for (int64_t first = begin; first < end; first += kStep<T>) {
    const int64_t r = first + my_pixel, b = r / g.So(), p = r % g.So();
    for (int row = my_row; row < kWeightOutputs; row += kWeightThreads / kStep<T>) {
      const int64_t o = first_output + row;
      const T grad = r < end && o < g.Co ? load(grad_output, g.output_at(b, o, p)) : narrow<T>(0);
      grads.element<T>(row, my_pixel) = factor_of(grad, TypeTag<Factors>());
    }
    Corners corners;
    corners.clear();
    if (r < end && c < g.C) corners.find(g, in, {b, int(c / g.offset_group_channels()), k, p});
    CornerWords<T> words;
    words.load(in.input, corners, int(c));
    union {
      Words16 words;
      T channel[kPerWords<T>];
    } sample{words.template blend<Factors>(corners)};
    for (int j = 0; j < kPerWords<T>; ++j) samples.element<T>(my_row * kPerWords<T> + j, my_pixel) = sample.channel[j];
    __syncthreads();
    sums.multiply<Factors>(grads, samples);
    __syncthreads();
  }
  sums.for_each([&](int row, int column, float sum) {
    const int64_t o = first_output + row, c = first_channel + column;
    if (o < g.Co && c < g.C) store(parts, ((blockIdx.z * g.Co + o) * g.C + c) * g.K() + k, sum);
  });
}

/// A thread adds the parts of one weight's gradient.
template <class T>
__global__ void add_weight_parts(Geometry g, int count, Global<const float> parts, Global<T> grad_weight) {
  const int64_t weights = g.Co * g.C * g.K();
  for (int64_t i = thread_number(); i < weights; i += thread_count()) {
    float sum = 0;
    for (int part = 0; part < count; ++part) sum += load(parts, part * weights + i);
    store(grad_weight, i, narrow<T>(sum));
  }
}

}  // namespace dyhead::deform_conv

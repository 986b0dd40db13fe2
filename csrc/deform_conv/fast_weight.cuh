// The fast kernels for the gradient of the weight: a matrix product summed over pixels, cut into parts that are added
// in a fixed order. Without atomics, so it is bit-equal from run to run.
//
// Here the input is channels-last, (B, H, W, C), and the output gradient is (B, Ho, Wo, Co). So pixels, over which is
// summed, are the rows of both tiles: what is read together stays together, and the tensor cores' loads turn it.
#pragma once

#include "deform_conv/gather.cuh"

namespace dyhead::deform_conv {

constexpr int kWeightThreads = 256, kWeightBlocksAtOnce = 2;  // on a multiprocessor
constexpr int kWeightOutputs = WarpSums::kRows * WarpSums::kWarpsOfRows, kWeightChannels = WarpSums::kColumns;

/// Chunks of channels of an offset group.
HOST_DEVICE inline int weight_chunks(const Geometry& g) {
  return int((g.offset_group_channels() + kWeightChannels - 1) / kWeightChannels);
}

/// The blocks of one part: taps and chunks of channels, chunks of outputs.
inline dim3 weight_blocks(const Geometry& g) {
  return dim3(unsigned(g.K() * g.G * weight_chunks(g)), unsigned((g.Co + kWeightOutputs - 1) / kWeightOutputs));
}

/// Two stages in shared memory, and the corners of the pixels of some steps.
template <class T>
struct WeightShared {
  using Grads = TurnedTile<T, kWeightOutputs>;
  using Samples = TurnedTile<T, kWeightChannels>;
  static constexpr int kPixels = 128;  // whose corners are found at a time
  static constexpr int kStageBytes = Grads::kBytes + Samples::kBytes;
  static constexpr size_t kBytes = 2 * kStageBytes + kPixels * sizeof(Corners);
  static_assert(kBytes <= kMostSharedBytes && kPixels <= kWeightThreads && kPixels % kStep<T> == 0);
  char* data;

  __device__ Grads grads(int stage) const { return {reinterpret_cast<T*>(data + stage * kStageBytes)}; }
  __device__ Samples samples(int stage) const {
    return {reinterpret_cast<T*>(data + stage * kStageBytes + Grads::kBytes)};
  }
  __device__ Corners& corners(int pixel) const {
    return reinterpret_cast<Corners*>(data + 2 * kStageBytes)[pixel % kPixels];
  }
};

/// The block's share of the work: one tap, some outputs and channels, a run of pixels.
struct WeightTask {
  int k, group, first_output, first_channel, end_channel, begin, end;

  __device__ explicit WeightTask(const Geometry& g) {
    const int chunks = weight_chunks(g), chunk = int(blockIdx.x) % (g.G * chunks);
    k = int(blockIdx.x) / (g.G * chunks), group = chunk / chunks;
    first_output = int(blockIdx.y) * kWeightOutputs;
    const int size = int(g.offset_group_channels());
    first_channel = group * size + chunk % chunks * kWeightChannels, end_channel = (group + 1) * size;
    const int pixels = int(all_pixels(g)), part = (pixels - 1) / int(gridDim.z) + 1;
    begin = min(int(blockIdx.z) * part, pixels), end = min(begin + part, pixels);
  }
};

/// Begin to copy the gradients of one step's pixels.
template <class T>
__device__ inline void copy_gradients(const Geometry& g, const Global<const T>& grad_output, const WeightTask& my,
                                      const typename WeightShared<T>::Grads& tile, int first) {
  const int pack = threadIdx.x % tile.kRowPacks, o = my.first_output + pack * kPerWords<T>;
#pragma unroll
  for (int i = 0; i < kStep<T> * tile.kRowPacks / kWeightThreads; ++i) {
    const int row = threadIdx.x / tile.kRowPacks + i * (kWeightThreads / tile.kRowPacks), r = first + row;
    copy_async(tile.pack(row, pack), grad_output, r * g.Co + o, r < my.end && o < g.Co);
  }
}

/// A block sums, over one part of the pixels, the products of 256 outputs' gradients and 64 channels' samples at one
/// tap. A thread samples 16 bytes of channels of one pixel per step, and holds 64 sums of the product. `parts`:
/// (gridDim.z, Co, K, C).
template <class T, class Factors>
__global__ void __launch_bounds__(kWeightThreads, kWeightBlocksAtOnce)
    weight_parts_fast(Geometry g, Inputs<T> in, Global<const T> grad_output, Global<float> parts) {
  DYNAMIC_SHARED(char, memory);
  using Shared = WeightShared<T>;
  const Shared shared{memory};
  const WeightTask my(g);
  const int my_row = threadIdx.x / Shared::Samples::kRowPacks, my_pack = threadIdx.x % Shared::Samples::kRowPacks;
  const int my_channel = my.first_channel + my_pack * kPerWords<T>;
  const uint32_t plane = uint32_t(g.So());  // 32-bit division is cheap
  CornerWords<T> words{};
  const auto begin = [&](int first, int stage) {
    copy_gradients(g, grad_output, my, shared.grads(stage), first);
    if ((first - my.begin) % Shared::kPixels == 0) {
      const uint32_t r = first + threadIdx.x;
      if (threadIdx.x < Shared::kPixels) {
        Corners& corners = shared.corners(threadIdx.x);
        r < my.end ? corners.find(g, in, {r / plane, my.group, my.k, r % plane}) : corners.clear();
      }
      __syncthreads();
    }
    if (my_channel < my.end_channel) words.load(in.input, shared.corners(first - my.begin + my_row), my_channel);
  };
  const auto finish = [&](int first, int stage) {
    const Corners& corners = shared.corners(first - my.begin + my_row);
    *reinterpret_cast<Words16*>(shared.samples(stage).pack(my_row, my_pack)) = words.template blend<Factors>(corners);
    wait_for_copies();
    __syncthreads();
  };

  WarpSums sums;
  begin(my.begin, 0);
  finish(my.begin, 0);
  for (int first = my.begin, stage = 0; first < my.end; first += kStep<T>, stage ^= 1) {
    const int next = first + kStep<T>;
    if (next < my.end) begin(next, stage ^ 1);
    if (my.first_output + WarpSums::first_row() < g.Co)
      sums.multiply<Factors>(shared.grads(stage), shared.samples(stage));
    if (next < my.end) finish(next, stage ^ 1);
  }
  sums.for_each([&](int row, int column, float sum) {
    const int o = my.first_output + row, c = my.first_channel + column;
    if (o < g.Co && c < my.end_channel) store(parts, ((blockIdx.z * g.Co + o) * g.K() + my.k) * g.C + c, sum);
  });
}

/// A thread adds the parts of one weight's gradient.
template <class T>
__global__ void add_weight_parts(Geometry g, int count, Global<const float> parts, Global<T> grad_weight) {
  const int64_t weights = g.Co * g.C * g.K();
  for (int64_t i = thread_number(); i < weights; i += thread_count()) {
    float sum = 0;
    for (int part = 0; part < count; ++part) sum += load(parts, part * weights + i);
    const int64_t c = i % g.C, k = i / g.C % g.K(), o = i / g.C / g.K();
    store(grad_weight, (o * g.C + c) * g.K() + k, narrow<T>(sum));
  }
}

}  // namespace dyhead::deform_conv

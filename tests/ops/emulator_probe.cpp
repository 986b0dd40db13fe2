// Small kernels that ask the emulator one question each. test_emulator.py compiles this file and calls them.
#include <cstdio>

#include "common/launch.cuh"
#include "common/tile.cuh"

using namespace dyhead;

__global__ void sum_warps(Global<const float> input, Global<float> output) {
  float value = load(input, thread_number());
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
  store(output, thread_number(), value);
}

__global__ void sum_eights(Global<const float> input, Global<float> output) {
  const unsigned mask = 0xffu << (threadIdx.x % 32 / 8 * 8);
  float value = load(input, thread_number());
  // Every group of eight takes part in another number of shuffles: only its own lanes may wait for it.
  for (unsigned turn = 0; turn <= threadIdx.x / 8; ++turn) value = __shfl_down_sync(mask, value, 1, 8);
  store(output, thread_number(), value);
}

__global__ void reverse_block(Global<const float> input, Global<float> output) {
  DYNAMIC_SHARED(float, shared);
  shared[threadIdx.x] = load(input, thread_number());
  __syncthreads();
  store(output, thread_number(), shared[blockDim.x - 1 - threadIdx.x]);
}

__global__ void read_unwritten(Global<const float>, Global<float> output) {
  DYNAMIC_SHARED(float, shared);
  store(output, thread_number(), shared[threadIdx.x]);
}

__global__ void sum_blocks(Global<const float> input, Global<float> output) {
  DYNAMIC_SHARED(float, total);
  if (threadIdx.x == 0) *total = 0;
  __syncthreads();
  atomicAdd(total, load(input, thread_number()));
  __syncthreads();
  if (threadIdx.x != 0) return;  // a thread that has ended is not waited for
  __syncthreads();
  atomic_add(output, 0, *total);
  const float four[4] = {1, 2, 3, 4};
  atomic_add4(output, 4, four);
}

__global__ void hasty_reverse(Global<const float> input, Global<float> output) {
  DYNAMIC_SHARED(float, shared);
  shared[threadIdx.x] = load(input, thread_number());
  store(output, thread_number(), shared[blockDim.x - 1 - threadIdx.x]);
}

__global__ void hasty_copy(Global<const float> input, Global<float> output) {
  DYNAMIC_SHARED(float, shared);
  copy_async(shared, input, 0, true);
  store(output, 0, shared[0]);
}

__global__ void plain_after_atomic(Global<const float>, Global<float> output) {
  DYNAMIC_SHARED(float, total);
  atomicAdd(total, 1.0f);
  if (threadIdx.x == 0) store(output, 0, *total);
}

/// A barrier of the warp is enough among its lanes.
__global__ void pass_on_in_a_warp(Global<const float> input, Global<float> output) {
  DYNAMIC_SHARED(float, shared);
  shared[threadIdx.x] = load(input, thread_number());
  __syncwarp();
  store(output, thread_number(), shared[(threadIdx.x + 1) % 32]);
}

__global__ void place_threads(Global<const float>, Global<float> output) {
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned size = blockDim.x * blockDim.y * blockDim.z;
  store(output, block * size + thread, float(block * size + thread));
}

__global__ void read_outside(Global<const float> input, Global<float> output) {
  store(output, thread_number(), load(input, thread_number() + 1));
}

__global__ void never_meet(Global<const float>, Global<float>) {
  if (threadIdx.x < 16)
    __syncthreads();
  else
    __syncwarp();
}

__global__ void shuffle_from_outside(Global<const float>, Global<float> output) {
  if (threadIdx.x < 8) store(output, threadIdx.x, __shfl_sync(0xffu, 1.0f, 9));
}

/// Element k, along the axis that is summed over, of a row or column.
template <class T>
T& element(const SharedTile& tile, int row, int k) {
  return static_cast<T*>(tile.pack(row, k / kPerWords<T>))[k % kPerWords<T>];
}
template <class T, int kWidth>
T& element(const TurnedTile<T, kWidth>& tile, int row, int k) {
  return tile.pack(k, row / kPerWords<T>)[row % kPerWords<T>];
}

template <class T, class Factors, class A, class B>
__device__ void multiply_tiles(Global<const float> input, Global<float> output, const A& a, const B& b) {
  const int columns = blockDim.x / 4;
  for (int i = threadIdx.x; i < (256 + columns) * kStep<T>; i += blockDim.x) {
    const int row = i / kStep<T>, k = i % kStep<T>;
    const T factor = factor_of(narrow<T>(load(input, i)), TypeTag<Factors>());
    (row < 256 ? element<T>(a, row, k) : element<T>(b, row - 256, k)) = factor;
  }
  __syncthreads();
  WarpSums sums;
  sums.multiply<Factors>(a, b);
  sums.for_each([&](int row, int column, float sum) { store(output, row * columns + column, sum); });
}

template <class T, class Factors = T>
__global__ void multiply(Global<const float> input, Global<float> output) {
  DYNAMIC_SHARED(char, shared);
  multiply_tiles<T, Factors>(input, output, SharedTile{shared}, SharedTile{shared + 256 * kRowBytes});
}

template <class T, class Factors = T>
__global__ void multiply_turned(Global<const float> input, Global<float> output) {
  DYNAMIC_SHARED(char, shared);
  using A = TurnedTile<T, 256>;
  using B = TurnedTile<T, 128>;
  T* const data = reinterpret_cast<T*>(shared);
  multiply_tiles<T, Factors>(input, output, A{data}, B{data + A::kBytes / sizeof(T)});
}

template <class T>
__global__ void round_trip(Global<const float> input, Global<float> output) {
  store(output, thread_number(), widen(narrow<T>(load(input, thread_number()))));
}

__global__ void round_trip_tf32(Global<const float> input, Global<float> output) {
  store(output, thread_number(), float_of(round_to_tf32(word_of(load(input, thread_number())))));
}

struct Named {
  const char* name;
  void (*kernel)(Global<const float>, Global<float>);
};
static const Named kernels[] = {
    {"sum_warps", sum_warps},
    {"sum_eights", sum_eights},
    {"reverse_block", reverse_block},
    {"read_unwritten", read_unwritten},
    {"sum_blocks", sum_blocks},
    {"hasty_reverse", hasty_reverse},
    {"hasty_copy", hasty_copy},
    {"plain_after_atomic", plain_after_atomic},
    {"pass_on_in_a_warp", pass_on_in_a_warp},
    {"place_threads", place_threads},
    {"read_outside", read_outside},
    {"never_meet", never_meet},
    {"shuffle_from_outside", shuffle_from_outside},
    {"multiply_float32", multiply<float>},
    {"multiply_tf32", multiply<float, Tf32>},
    {"multiply_float16", multiply<float16>},
    {"multiply_bfloat16", multiply<bfloat16>},
    {"multiply_turned_float32", multiply_turned<float>},
    {"multiply_turned_tf32", multiply_turned<float, Tf32>},
    {"multiply_turned_float16", multiply_turned<float16>},
    {"multiply_turned_bfloat16", multiply_turned<bfloat16>},
    {"round_trip_tf32", round_trip_tf32},
    {"round_trip_float16", round_trip<float16>},
    {"round_trip_bfloat16", round_trip<bfloat16>},
};

/// Run a kernel; returns 0, or 1 with the message of what it threw.
extern "C" int run_probe(const char* name, const unsigned* blocks, const unsigned* threads, size_t shared_bytes,
                         float* input, int64_t input_size, float* output, int64_t output_size, char* message,
                         size_t message_size) {
  try {
    for (const Named& named : kernels)
      if (std::string(name) == named.name) {
        const Launch at{dim3(blocks[0], blocks[1], blocks[2]), dim3(threads[0], threads[1], threads[2]), nullptr,
                        shared_bytes};
        launch(at, Kernel{named.kernel, named.name}, global<const float>({input, input_size, "input"}),
               global<float>({output, output_size, "output"}));
        return 0;
      }
    throw std::invalid_argument("no such kernel");
  } catch (const std::exception& error) {
    std::snprintf(message, message_size, "%s", error.what());
    return 1;
  }
}

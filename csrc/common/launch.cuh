// Host side of a kernel: pick its types, choose the number of blocks, launch it.
#pragma once

#include <algorithm>
#include <stdexcept>
#include <string>

#include "common/memory.cuh"

namespace dyhead {

template <class T>
struct TypeTag {
  using type = T;
};

/// Call `function(TypeTag<T>())` with the C++ type T of `type`.
template <class Function>
void with_type(Type type, const Function& function) {
  switch (type) {
    case Type::float32:
      return function(TypeTag<float>());
    case Type::float64:
      return function(TypeTag<double>());
    case Type::float16:
      return function(TypeTag<float16>());
    case Type::bfloat16:
      return function(TypeTag<bfloat16>());
  }
}

/// Where and how widely a kernel runs. `stream` is a cudaStream_t; the emulator ignores it. 48 KB of shared memory are
/// the most that every GPU gives without being asked.
struct Launch {
  dim3 blocks;
  dim3 threads;
  void* stream;
  size_t shared_bytes = 0;
};

constexpr int kThreads = 256;

/// A one-dimensional launch for `work` items, for kernels with a grid-stride loop.
inline Launch over(int64_t work, void* stream) {
  const int64_t blocks = std::min<int64_t>((work + kThreads - 1) / kThreads, 1 << 20);
  return {dim3(unsigned(blocks)), dim3(kThreads), stream};
}

/// How many blocks of so many threads the current GPU can hold at a time, if nothing but threads limits them.
inline int64_t resident_blocks(int threads) {
#ifdef __CUDACC__
  int device = 0, multiprocessors = 0, threads_each = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  cudaDeviceGetAttribute(&threads_each, cudaDevAttrMaxThreadsPerMultiProcessor, device);
  return int64_t(multiprocessors) * (threads_each / threads);
#else
  return 2048 / threads;  // the emulated GPU has one multiprocessor
#endif
}

/// Run `kernel(arguments...)`. An empty grid is no error: nothing runs.
template <class... Parameters, class... Arguments>
void launch(const Launch& at, void (*kernel)(Parameters...), const Arguments&... arguments) {
  if (at.blocks.x == 0 || at.blocks.y == 0 || at.blocks.z == 0) return;
#ifdef __CUDACC__
  kernel<<<at.blocks, at.threads, at.shared_bytes, static_cast<cudaStream_t>(at.stream)>>>(arguments...);
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) throw std::runtime_error(std::string("CUDA kernel launch: ") + cudaGetErrorString(error));
#else
#ifdef DYHEAD_EMULATOR_CHECK
  emulator::Observer::get().next_launch();
#endif
  emulator::Block::current().run_grid(at.blocks, at.threads, at.shared_bytes, [&] { kernel(arguments...); });
#endif
}

}  // namespace dyhead

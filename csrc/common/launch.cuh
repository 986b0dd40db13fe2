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

/// The shared memory that every GPU gives to a block without being asked for more.
constexpr size_t kMostSharedBytes = 48 * 1024;

/// Where and how widely a kernel runs. `stream` is a cudaStream_t; the emulator ignores it.
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

#ifdef __CUDACC__
/// Throws what CUDA says, unless all is well. `what` was being done.
inline void expect_success(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // CUDA keeps the error until it is asked: the next launch would take it for its own
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

/// A property of the current GPU. An error is an error, never a GPU without the property.
inline int device_attribute(cudaDeviceAttr attribute) {
  int device = 0, value = 0;
  expect_success(cudaGetDevice(&device), "CUDA device");
  expect_success(cudaDeviceGetAttribute(&value, attribute, device), "CUDA device attribute");
  return value;
}
#endif

/// The multiprocessors of the current GPU.
inline int64_t multiprocessors() {
#ifdef __CUDACC__
  return device_attribute(cudaDevAttrMultiProcessorCount);
#else
  return emulator::multiprocessors;
#endif
}

/// Ten times the compute capability of the current GPU: 75 is Turing's 7.5.
inline int compute_capability() {
#ifdef __CUDACC__
  return 10 * device_attribute(cudaDevAttrComputeCapabilityMajor) + device_attribute(cudaDevAttrComputeCapabilityMinor);
#else
  return emulator::compute_capability;
#endif
}

/// How many blocks of so many threads the current GPU can hold at a time, if nothing but threads limits them.
inline int64_t resident_blocks(int threads) {
#ifdef __CUDACC__
  return multiprocessors() * (device_attribute(cudaDevAttrMaxThreadsPerMultiProcessor) / threads);
#else
  return multiprocessors() * (2048 / threads);
#endif
}

/// A kernel and its name in the source, by which the emulator's debug build counts launches. `KERNEL` makes one.
template <class... Parameters>
struct Kernel {
  void (*function)(Parameters...);
  const char* name;
};
template <class... Parameters>
Kernel(void (*)(Parameters...), const char*) -> Kernel<Parameters...>;
#define KERNEL(...) \
  ::dyhead::Kernel { __VA_ARGS__, #__VA_ARGS__ }

/// Run `kernel(arguments...)`. An empty grid is no error: nothing runs.
template <class... Parameters, class... Arguments>
void launch(const Launch& at, Kernel<Parameters...> kernel, const Arguments&... arguments) {
  if (at.blocks.x == 0 || at.blocks.y == 0 || at.blocks.z == 0) return;
  if (at.shared_bytes > kMostSharedBytes) throw std::logic_error("a kernel asks for more shared memory than is given");
#ifdef __CUDACC__
  kernel.function<<<at.blocks, at.threads, at.shared_bytes, static_cast<cudaStream_t>(at.stream)>>>(arguments...);
  expect_success(cudaGetLastError(), "CUDA kernel launch");
#else
#ifdef DYHEAD_EMULATOR_CHECK
  emulator::Observer::get().next_launch(kernel.name);
#endif
  emulator::Block::current().run_grid(at.blocks, at.threads, at.shared_bytes, [&] { kernel.function(arguments...); });
#endif
}

}  // namespace dyhead

// One door to the platform: CUDA under nvcc, the emulator under any other C++ compiler.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
/// Dynamic shared memory as an array `name` of `T`. The one thing that CUDA's own spelling keeps from plain C++.
/// Kernels have no other shared memory: the emulator watches this.
#define DYNAMIC_SHARED(T, name)                                    \
  extern __shared__ __align__(16) unsigned char dynamic_shared_[]; \
  T* const name = reinterpret_cast<T*>(dynamic_shared_)
#else
#include "emulator/cuda.h"
#define DYNAMIC_SHARED(T, name) T* const name = emulator::Block::current().dynamic_shared<T>(#name)
#endif

namespace dyhead {

using float16 = __half;
using bfloat16 = __nv_bfloat16;

/// The type in which sums over values of type T are kept.
template <class T>
struct AccumulatorOf {
  using type = float;
};
template <>
struct AccumulatorOf<double> {
  using type = double;
};
template <class T>
using Accumulator = typename AccumulatorOf<T>::type;

__device__ inline double widen(double value) { return value; }
__device__ inline float widen(float value) { return value; }
__device__ inline float widen(float16 value) { return __half2float(value); }
__device__ inline float widen(bfloat16 value) { return __bfloat162float(value); }

template <class T>
__device__ inline T narrow(Accumulator<T> value) {
  return value;
}
template <>
__device__ inline float16 narrow<float16>(float value) {
  return __float2half(value);
}
template <>
__device__ inline bfloat16 narrow<bfloat16>(float value) {
  return __float2bfloat16(value);
}

/// The running number of this thread in a one-dimensional grid, and how many there are. A grid-stride loop over them
/// covers any amount of work in 64-bit arithmetic.
__device__ inline int64_t thread_number() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline int64_t thread_count() { return int64_t(gridDim.x) * blockDim.x; }

}  // namespace dyhead

// CUDA's language for a kernel that comes as text: what `dyhead_lab.ops.cuda_text` puts in front of it.
//
// It is small, so that a compiler takes a fraction of a second. The text is compiled with -fsanitize=thread, by which
// the compiler announces every access to memory (witness.h listens); the functions below are compiled without, and
// live in text_main.cpp.
#pragma once

#include <math.h>
#include <stdint.h>
#include <stdio.h>

#include <cmath>

#include "emulator/here.h"

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline
#define __launch_bounds__(...)
/// The section tells shared memory from everything else.
#define __shared__ static __attribute__((section("dyhead_shared")))

#define threadIdx (emulator::here.thread)
#define blockIdx (emulator::here.block)
#define blockDim (emulator::here.block_size)
#define gridDim (emulator::here.grid_size)

void __syncthreads();
void __syncwarp(unsigned mask = 0xffffffffu);
int atomicAdd(int* address, int value);
unsigned atomicAdd(unsigned* address, unsigned value);
float atomicAdd(float* address, float value);
double atomicAdd(double* address, double value);
int __shfl_sync(unsigned mask, int value, int source, int width = 32);
float __shfl_sync(unsigned mask, float value, int source, int width = 32);
int __shfl_xor_sync(unsigned mask, int value, int bits, int width = 32);
float __shfl_xor_sync(unsigned mask, float value, int bits, int width = 32);
int __shfl_down_sync(unsigned mask, int value, unsigned delta, int width = 32);
float __shfl_down_sync(unsigned mask, float value, unsigned delta, int width = 32);

namespace emulator {
/// The launch's dynamic shared memory: what `extern __shared__ T name[]` means.
void* dynamic_shared();
}  // namespace emulator

template <class T>
inline T __ldg(const T* address) {
  return *address;
}

template <class A, class B>
inline auto min(A a, B b) -> decltype(a + b) {
  return b < a ? b : a;
}

template <class A, class B>
inline auto max(A a, B b) -> decltype(a + b) {
  return a < b ? b : a;
}

inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

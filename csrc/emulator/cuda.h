// The part of CUDA's language that the kernels use, in plain C++.
//
// With this header g++ compiles the very `.cuh` files that nvcc compiles. Threads are fibers (block.h); a block's
// threads run on one core, so an atomic is an ordinary addition.
#pragma once

#include <math.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "emulator/shared.h"
#include "emulator/types.h"
#include "emulator/warp.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

#define threadIdx (emulator::here.thread)
#define blockIdx (emulator::here.block)
#define blockDim (emulator::here.block_size)
#define gridDim (emulator::here.grid_size)

using std::max;
using std::min;

inline void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  if (!emulator::is_left_out(file, line)) emulator::Block::current().barrier();
}

inline void __syncwarp(unsigned mask = 0xffffffffu, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  if (!emulator::is_left_out(file, line)) emulator::Block::current().warp_barrier(mask);
}

template <class T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const unsigned first = emulator::lane() / width * width;
  return emulator::exchange(mask, value, first + unsigned(source) % width);
}

template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  const unsigned lane = emulator::lane(), source = lane ^ unsigned(bits);
  return emulator::exchange(mask, value, source / width == lane / width ? source : lane);
}

template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const unsigned lane = emulator::lane();
  return emulator::exchange(mask, value, lane % width + delta < unsigned(width) ? lane + delta : lane);
}

template <class T>
inline T atomicAdd(T* address, T value) {
  const emulator::Told told(address, sizeof(T), emulator::Touch::atomic);
  const T before = *address;
  *address = before + value;
  return before;
}

inline float4 atomicAdd(float4* address, float4 value) {
  const emulator::Told told(address, sizeof(float4), emulator::Touch::atomic);
  const float4 before = *address;
  *address = {before.x + value.x, before.y + value.y, before.z + value.z, before.w + value.w};
  return before;
}

template <class T>
inline T __ldg(const T* address) {
  return *address;
}

template <class T>
inline T __ldcg(const T* address) {
  return *address;
}

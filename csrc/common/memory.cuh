// Global memory: the only way by which kernels touch it.
//
// `Global<T>` is a bare pointer on the GPU and in the emulator's release build. In the debug build
// (DYHEAD_EMULATOR_CHECK) it also knows its size and name, and every access passes the observer.
#pragma once

#include "common/interface.h"
#include "common/platform.cuh"

#ifdef DYHEAD_EMULATOR_CHECK
#include "emulator/observer.h"
#endif

namespace dyhead {

template <class T>
struct Global {
  T* data;
#ifdef DYHEAD_EMULATOR_CHECK
  int64_t size;
  const char* name;
#endif
};

template <class T>
Global<T> global(const Buffer& buffer) {
#ifdef DYHEAD_EMULATOR_CHECK
  return {static_cast<T*>(buffer.data), buffer.size, buffer.name};
#else
  return {static_cast<T*>(buffer.data)};
#endif
}

#ifdef DYHEAD_EMULATOR_CHECK
template <class T>
void check(const Global<T>& memory, int64_t index, int count) {
  emulator::Observer::check(memory.name, memory.size, index, count);
}
inline double recorded(int64_t value) { return double(value); }
template <class T>
double recorded(T value) {
  return double(widen(value));
}
template <class T, class Value>
void record(emulator::Operation operation, const Global<T>& memory, int64_t index, int count, Value value) {
  emulator::Observer::get().record(operation, memory.name, index, count, recorded(value));
}
#define OBSERVE(operation, memory, index, count, value) \
  check(memory, index, count);                          \
  record(emulator::Operation::operation, memory, index, count, value)
#else
#define OBSERVE(operation, memory, index, count, value)
#endif

/// Read one element that no thread writes during the kernel.
template <class T>
__device__ inline T load(const Global<const T>& memory, int64_t index) {
  OBSERVE(read, memory, index, 1, memory.data[index]);
  return __ldg(memory.data + index);
}

/// Read one element that this thread alone writes.
template <class T>
__device__ inline T load_own(const Global<T>& memory, int64_t index) {
  OBSERVE(read, memory, index, 1, memory.data[index]);
  return memory.data[index];
}

template <class T>
__device__ inline void store(const Global<T>& memory, int64_t index, T value) {
  OBSERVE(write, memory, index, 1, value);
  memory.data[index] = value;
}

template <class T>
__device__ inline void atomic_add(const Global<T>& memory, int64_t index, T value) {
  OBSERVE(atomic_add, memory, index, 1, value);
  atomicAdd(memory.data + index, value);
}

/// Add four floats in one instruction where GPU and toolkit have it (sm_90, CUDA 12.1), else in four. The host's pass
/// of nvcc, where no architecture is set, must not see the instruction: older toolkits do not declare it.
__device__ inline void atomic_add4(const Global<float>& memory, int64_t index, const float (&value)[4]) {
  OBSERVE(atomic_add, memory, index, 4, value[0]);
#if !defined(__CUDACC__) || (__CUDA_ARCH__ >= 900 && CUDART_VERSION >= 12010)
  atomicAdd(reinterpret_cast<float4*>(memory.data + index), float4{value[0], value[1], value[2], value[3]});
#else
  for (int i = 0; i < 4; ++i) atomicAdd(memory.data + index + i, value[i]);
#endif
}

}  // namespace dyhead

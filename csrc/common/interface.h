// What passes between the binding and the launchers. No torch, no CUDA.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define HOST_DEVICE __host__ __device__
#else
#define HOST_DEVICE
#endif

namespace dyhead {

/// The element types that a tensor may have.
enum class Type { float32, float64, float16, bfloat16 };

/// A tensor's memory: address, number of elements, name of the argument.
struct Buffer {
  void* data;
  int64_t size;
  const char* name;
};

/// True if packs of 16 bytes can be read from the buffer's start on.
inline bool is_aligned(const Buffer& buffer) { return reinterpret_cast<uintptr_t>(buffer.data) % 16 == 0; }

}  // namespace dyhead

// Tensor cores and asynchronous copies, one small primitive per instruction. Each has a twin in the emulator.
//
// The instructions exist from compute capability 8.0 on, those for float16 from 7.5 on (`has_tensor_cores`); code for
// older GPUs stops if it runs.
#pragma once

#include "common/launch.cuh"
#include "common/words.cuh"

#ifndef __CUDACC__
#include "emulator/tensor_core.h"
#endif

namespace dyhead {

/// Whether the tensor cores of the current GPU multiply this type.
inline bool has_tensor_cores(Type type) { return compute_capability() >= (type == Type::float16 ? 75 : 80); }

/// Whether a kernel has the instructions of compute capability 8.0. nvcc decides it, so that it costs nothing.
__device__ inline bool has_ampere_instructions() {
#if !defined(__CUDACC__)
  return emulator::compute_capability >= 80;
#elif __CUDA_ARCH__ >= 800
  return true;
#else
  return false;
#endif
}

#ifdef __CUDACC__
#if __CUDA_ARCH__ >= 800
#define TENSOR_CORE(...) asm volatile(__VA_ARGS__)
#else
#define TENSOR_CORE(...) __trap()
#endif
#if __CUDA_ARCH__ >= 750
#define TURING_TENSOR_CORE(...) asm volatile(__VA_ARGS__)
#else
#define TURING_TENSOR_CORE(...) __trap()
#endif
__device__ inline unsigned shared_address(const void* shared) { return unsigned(__cvta_generic_to_shared(shared)); }
#endif

/// A warp loads four matrices of 8 rows of 16 bytes from shared memory. Lane 8i + r gives the address of row r of
/// matrix i; word[i] becomes word lane % 4 of row lane / 4 of matrix i.
__device__ inline void load_matrices(uint32_t (&word)[4], const void* row) {
#ifdef __CUDACC__
  TURING_TENSOR_CORE("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(word[0]), "=r"(word[1]),
                     "=r"(word[2]), "=r"(word[3]) : "r"(shared_address(row)) : "memory");
#else
  emulator::load_matrices(word, row);
#endif
}

/// The same with each matrix of 16-bit elements turned: word[i] becomes rows 2 (lane % 4) and 2 (lane % 4) + 1 of
/// column lane / 4 of matrix i.
__device__ inline void load_turned_matrices(uint32_t (&word)[4], const void* row) {
#ifdef __CUDACC__
  TURING_TENSOR_CORE("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(word[0]),
                     "=r"(word[1]), "=r"(word[2]), "=r"(word[3]) : "r"(shared_address(row)) : "memory");
#else
  emulator::load_turned_matrices(word, row);
#endif
}

/// A warp multiplies: sum (16 x 8) += a (16 rows of 32 bytes) times b (8 columns of 32 bytes), in 16-bit floats. With g
/// = lane / 4 and t = lane % 4, a lane holds words t and t + 4 of rows g and g + 8 of a and of column g of b, and the
/// sums of rows g and g + 8 at columns 2t and 2t + 1.
__device__ inline void multiply_add(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                    TypeTag<bfloat16>) {
#ifdef __CUDACC__
  TENSOR_CORE(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};" : "+f"(sum[0]),
      "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  emulator::multiply_add<bfloat16>(sum, a, b);
#endif
}

/// Half of it, words 0 to 3 or 4 to 7 of the rows of a and the columns of b: all that Turing multiplies at a time.
__device__ inline void multiply_add_half(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], int half) {
#ifdef __CUDACC__
  TURING_TENSOR_CORE(
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};" : "+f"(
          sum[0]),
      "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3]) : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
#else
  emulator::multiply_add<float16, 4>(sum, a + 2 * half, b + half);
#endif
}

__device__ inline void multiply_add(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], TypeTag<float16>) {
  if (!has_ampere_instructions()) {
#pragma unroll
    for (int half = 0; half < 2; ++half) multiply_add_half(sum, a, b, half);
    return;
  }
#ifdef __CUDACC__
  TENSOR_CORE(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};" : "+f"(sum[0]),
      "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  emulator::multiply_add<float16>(sum, a, b);
#endif
}

/// The same with words that are floats of which the tensor core takes 10 bits of mantissa (TF32), the others cut off.
__device__ inline void multiply_add_tf32(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#ifdef __CUDACC__
  TENSOR_CORE(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};" : "+f"(sum[0]),
      "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  emulator::multiply_add<float>(sum, a, b);
#endif
}

/// What tensor cores multiply in place of floats, where that is precise enough: floats rounded to TF32.
struct Tf32 {};

/// The nearest float that TF32 holds.
__device__ inline uint32_t round_to_tf32(uint32_t word) {
#if !defined(__CUDACC__)
  return emulator::round_to_tf32(word);
#elif __CUDA_ARCH__ >= 800
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(word) : "f"(float_of(word)));
  return word;
#else
  return word;
#endif
}

/// A number, or its word, as the tensor cores are to find it in shared memory. Floats for TF32 are rounded here, once,
/// and not where they are multiplied, again and again.
template <class Value, class Factors>
__device__ inline Value factor_of(Value value, TypeTag<Factors>) {
  return value;
}
__device__ inline uint32_t factor_of(uint32_t word, TypeTag<Tf32>) { return round_to_tf32(word); }
__device__ inline float factor_of(float value, TypeTag<Tf32>) { return float_of(round_to_tf32(word_of(value))); }

__device__ inline void multiply_add(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], TypeTag<Tf32>) {
  multiply_add_tf32(sum, a, b);
}

/// Split floats in two that TF32 holds exactly, up to 21 bits of mantissa together.
template <int N>
__device__ inline void split_tf32(const uint32_t (&word)[N], uint32_t (&high)[N], uint32_t (&low)[N]) {
  for (int i = 0; i < N; ++i) {
    high[i] = word[i] & 0xffffe000u;
    low[i] = word_of(float_of(word[i]) - float_of(high[i])) & 0xffffe000u;
  }
}

/// float32 to nearly its own precision, from three TF32 products. Their sum is formed apart and added in float32:
/// tensor cores round their sums towards zero, and over a long sum that would show.
__device__ inline void multiply_add(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], TypeTag<float>) {
  uint32_t a_high[4], a_low[4], b_high[2], b_low[2];
  split_tf32(a, a_high, a_low);
  split_tf32(b, b_high, b_low);
  float part[4] = {};
  multiply_add_tf32(part, a_low, b_high);
  multiply_add_tf32(part, a_high, b_low);
  multiply_add_tf32(part, a_high, b_high);
  for (int i = 0; i < 4; ++i) sum[i] += part[i];
}

/// Call `function(TypeTag<T>(), TypeTag<Factors>())` with the type of the tensors and of what is multiplied: float32
/// with or without `tf32`, and the 16-bit types as they are. There are no tensor cores for float64 here.
template <class Function>
void with_factors(Type type, bool tf32, const Function& function) {
  with_type(type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if constexpr (std::is_same_v<T, float>) {
      tf32 ? function(tag, TypeTag<Tf32>()) : function(tag, tag);
    } else if constexpr (!std::is_same_v<T, double>) {
      function(tag, tag);
    }
  });
}

/// Begin to copy 16 bytes from global to shared memory; zeros if not `exists`. Before 8.0 the thread copies them
/// itself.
template <class T>
__device__ inline void copy_async(void* shared, const Global<const T>& memory, int64_t index, bool exists) {
  if (!has_ampere_instructions()) {
    *static_cast<Words16*>(shared) = load_words<4>(memory, index, exists);
    return;
  }
#ifdef __CUDACC__
  TENSOR_CORE("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
              "l"(memory.data + (exists ? index : 0)), "r"(exists ? 16 : 0) : "memory");
#else
  const Words16 words = load_words<4>(memory, index, exists);
  emulator::begin_copy(shared, emulator::bit_cast<float4>(words));
#endif
}

/// Wait for all copies that this thread has begun.
__device__ inline void wait_for_copies() {
  if (!has_ampere_instructions()) return;
#ifdef __CUDACC__
  TENSOR_CORE("cp.async.wait_all;" :: : "memory");
#else
  emulator::wait_for_copies();
#endif
}

}  // namespace dyhead

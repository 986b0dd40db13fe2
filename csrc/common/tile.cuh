// Tiles of a matrix product: in shared memory as rows of 64 bytes, in registers as sums.
//
// A block multiplies a tile of 256 rows (a) with a tile of 64 or more columns (b). The axis that is summed over is the
// contiguous one in both: 64 bytes of it, 32 16-bit floats or 16 floats, are one step.
#pragma once

#include "common/tensor_core.cuh"

namespace dyhead {

constexpr int kRowBytes = 64, kRowPacks = kRowBytes / 16;

/// Elements of T along the summed axis that one step takes.
template <class T>
constexpr int kStep = kRowBytes / int(sizeof(T));

/// Rows of 64 bytes in shared memory. The packs of a row are permuted, so that a pack of eight neighbouring rows lies
/// in eight different groups of banks.
struct SharedTile {
  char* data;

  __device__ void* pack(int row, int pack) const { return data + row * kRowBytes + ((pack ^ (row >> 1 & 3)) * 16); }
  template <class T>
  __device__ T& element(int row, int i) const {
    return static_cast<T*>(pack(row, i / kPerWords<T>))[i % kPerWords<T>];
  }
};

/// The sums of one warp: 32 rows x 64 columns as 2 x 8 tensor-core tiles. Warps 0 to 7 share columns 0 to 63, the next
/// eight warps columns 64 to 127.
struct WarpSums {
  static constexpr int kRows = 32, kColumns = 64, kWarpsOfRows = 8;
  float at[2][8][4] = {};

  __device__ static int first_row() { return int(threadIdx.x) / 32 % kWarpsOfRows * kRows; }
  __device__ static int first_column() { return int(threadIdx.x) / 32 / kWarpsOfRows * kColumns; }

  /// sums += one step: the rows of `a` times the columns of `b`. Factors: the tiles' type, or Tf32 for float.
  template <class Factors>
  __device__ void multiply(const SharedTile& a, const SharedTile& b) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int half = 0; half < 2; ++half) {  // an instruction takes 32 of the 64 bytes
      uint32_t a_words[2][4];
#pragma unroll
      for (int i = 0; i < 2; ++i)
        load_matrices(a_words[i], a.pack(first_row() + 16 * i + lane % 16, 2 * half + lane / 16));
#pragma unroll
      for (int j = 0; j < 8; j += 2) {
        uint32_t b_words[4];
        load_matrices(b_words, b.pack(first_column() + 8 * j + lane / 16 * 8 + lane % 8, 2 * half + lane / 8 % 2));
        const uint32_t left[2] = {b_words[0], b_words[1]}, right[2] = {b_words[2], b_words[3]};
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          multiply_add(at[i][j], a_words[i], left, TypeTag<Factors>());
          multiply_add(at[i][j + 1], a_words[i], right, TypeTag<Factors>());
        }
      }
    }
  }

  /// Call `visit(row, column, sum)` for every sum that this thread holds; both count from the block's tile.
  template <class Visit>
  __device__ void for_each(const Visit& visit) const {
    const int lane = threadIdx.x % 32, row = first_row() + lane / 4, column = first_column() + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int j = 0; j < 8; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) visit(row + 16 * i + e / 2 * 8, column + 8 * j + e % 2, at[i][j][e]);
  }
};

}  // namespace dyhead

// Bilinear interpolation between four pixels; both operators sample with it.
#pragma once

#include "common/platform.cuh"

namespace dyhead {

/// The four pixels around the point (y, x). Corner (i, j) is pixel (top + i, left + j), i and j in {0, 1}.
///
/// At an integer position the point belongs to the cell on its floor side, and so do its gradients. A point that is not
/// finite lies in no cell, and all its weights and slopes are NaN, so that the mistake shows in every result.
template <class A>
struct Cell {
  int top, left;
  A dy, dx;     // the point's place in the cell, in [0, 1); both NaN where a coordinate is not finite
  bool inside;  // false: all four pixels lie outside the image, or a coordinate is not finite

  __device__ Cell(A y, A x, int H, int W) {
    inside = y >= A(-1) && x >= A(-1) && y < A(H) && x < A(W);
    const A floor_y = floor(y), floor_x = floor(x);
    const A zero_or_nan = (y - y) + (x - x);
    dy = y - floor_y + zero_or_nan, dx = x - floor_x + zero_or_nan;
    top = inside ? int(floor_y) : 0, left = inside ? int(floor_x) : 0;
  }

  __device__ bool has(int i, int j, int H, int W) const {
    return inside && top + i >= 0 && top + i < H && left + j >= 0 && left + j < W;
  }

  /// (1 - |y - row|) (1 - |x - column|) of corner (i, j).
  __device__ A weight(int i, int j) const { return (i ? dy : 1 - dy) * (j ? dx : 1 - dx); }

  /// The interpolated value, from the corners' values; a corner outside counts as zero.
  __device__ A value(const A (&corner)[2][2]) const {
    return weight(0, 0) * corner[0][0] + weight(0, 1) * corner[0][1] + weight(1, 0) * corner[1][0] +
           weight(1, 1) * corner[1][1];
  }

  /// Derivatives of `value` by y and by x.
  __device__ A slope_y(const A (&corner)[2][2]) const {
    return (1 - dx) * (corner[1][0] - corner[0][0]) + dx * (corner[1][1] - corner[0][1]);
  }
  __device__ A slope_x(const A (&corner)[2][2]) const {
    return (1 - dy) * (corner[0][1] - corner[0][0]) + dy * (corner[1][1] - corner[1][0]);
  }
};

}  // namespace dyhead

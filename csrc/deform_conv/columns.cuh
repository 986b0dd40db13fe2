// The kernels around a matrix product that is torch's own: samples are kept in memory as columns, each computed once.
//
// They are for what the fast kernels do not take: GPUs without the tensor cores of compute capability 8.0, groups, odd
// channels, float64. The columns of some images are (images, C, K, Ho * Wo).
#pragma once

#include "deform_conv/taps.cuh"

namespace dyhead::deform_conv {

constexpr int kChannelsOfThread = 8;

/// A thread's share: one tap of one pixel, whose place is worked out once, and a few channels of its offset group.
struct ColumnShare {
  int64_t image;  // counted in the columns
  Tap tap;
  int64_t first, end;  // channels

  static HOST_DEVICE int64_t chunks(const Geometry& g) {
    return (g.offset_group_channels() + kChannelsOfThread - 1) / kChannelsOfThread;
  }
  static HOST_DEVICE int64_t count(const Geometry& g, const Images& images) {
    return images.count * g.G * chunks(g) * g.K() * g.So();
  }

  __device__ ColumnShare(const Geometry& g, const Images& images, int64_t i) {
    const int64_t p = i % g.So(), k = i / g.So() % g.K(), chunk = i / g.So() / g.K();
    const int64_t group = chunk / chunks(g) % g.G, start = group * g.offset_group_channels();
    image = chunk / chunks(g) / g.G;
    tap = {images.first + image, int(group), int(k), p};
    first = start + chunk % chunks(g) * kChannelsOfThread;
    end = min(first + kChannelsOfThread, start + g.offset_group_channels());
  }

  __device__ int64_t column(const Geometry& g, int64_t c) const {
    return ((image * g.C + c) * g.K() + tap.k) * g.So() + tap.p;
  }
};

/// A thread samples its channels.
template <class T>
__global__ void sample_into_columns(Geometry g, Inputs<T> in, Images images, Global<T> columns) {
  using A = Accumulator<T>;
  for (int64_t i = thread_number(); i < ColumnShare::count(g, images); i += thread_count()) {
    const ColumnShare my(g, images, i);
    const Cell<A> cell = in.cell(g, my.tap);
    const A modulation = in.modulation(g, my.tap);
    for (int64_t c = my.first; c < my.end; ++c) {
      A corner[2][2];
      in.corners(g, cell, my.tap.b, c, corner);
      store(columns, my.column(g, c), narrow<T>(cell.value(corner) * modulation));
    }
  }
}

/// A thread adds the gradients of its samples to the four pixels that they read.
template <class T>
__global__ void scatter_from_columns(Geometry g, Inputs<T> in, Images images, Global<const T> grad_columns,
                                     Global<Accumulator<T>> grad_input) {
  using A = Accumulator<T>;
  for (int64_t i = thread_number(); i < ColumnShare::count(g, images); i += thread_count()) {
    const ColumnShare my(g, images, i);
    const Cell<A> cell = in.cell(g, my.tap);
    const A modulation = in.modulation(g, my.tap);
    for (int64_t c = my.first; c < my.end; ++c) {
      const A share = A(widen(load(grad_columns, my.column(g, c)))) * modulation;
      for (int y = 0; y < 2; ++y)
        for (int x = 0; x < 2; ++x)
          if (cell.has(y, x, g.H, g.W))
            atomic_add(grad_input, g.input_at(my.tap.b, c, int64_t(cell.top + y) * g.W + cell.left + x),
                       share * cell.weight(y, x));
    }
  }
}

}  // namespace dyhead::deform_conv

// The simple kernels: one thread per result and the formula inside it. They do every shape and type.
//
// The backward pass first writes the gradient of one image's samples (`columns`), as the classic implementations do,
// and the other kernels read it.
#pragma once

#include "deform_conv/taps.cuh"

namespace dyhead::deform_conv {

/// A thread computes one output: the sum over input channels c and taps k of weight times sample.
template <class T>
__global__ void forward_simple(Geometry g, Inputs<T> in, Global<T> output) {
  using A = Accumulator<T>;
  for (int64_t i = thread_number(); i < g.B * g.Co * g.So(); i += thread_count()) {
    const int64_t p = i % g.So(), o = i / g.So() % g.Co, b = i / g.So() / g.Co;
    const int64_t first = o / g.group_outputs() * g.group_inputs();
    A sum = 0;
    for (int64_t c = 0; c < g.group_inputs(); ++c)
      for (int k = 0; k < g.K(); ++k) {
        const Tap tap{b, int((first + c) / g.offset_group_channels()), k, p};
        sum += A(widen(load(in.weight, (o * g.group_inputs() + c) * g.K() + k))) * in.sample(g, tap, first + c);
      }
    store(output, g.output_at(b, o, p), narrow<T>(sum));
  }
}

/// A thread computes one gradient of image b's samples: channel c at tap k and pixel p, the sum over outputs o.
template <class T>
__global__ void columns_simple(Geometry g, Inputs<T> in, Global<const T> grad_output, int64_t b,
                               Global<Accumulator<T>> columns) {
  using A = Accumulator<T>;
  for (int64_t i = thread_number(); i < g.C * g.K() * g.So(); i += thread_count()) {
    const int64_t p = i % g.So(), k = i / g.So() % g.K(), c = i / g.So() / g.K();
    const int64_t group = c / g.group_inputs(), first = group * g.group_outputs();
    A sum = 0;
    for (int64_t o = first; o < first + g.group_outputs(); ++o)
      sum += A(widen(load(in.weight, (o * g.group_inputs() + c % g.group_inputs()) * g.K() + k))) *
             A(widen(load(grad_output, g.output_at(b, o, p))));
    store(columns, i, sum);
  }
}

/// A thread takes one gradient of a sample and adds its share to the four pixels that the sample read.
template <class T>
__global__ void backward_input_simple(Geometry g, Inputs<T> in, int64_t b, Global<const Accumulator<T>> columns,
                                      Global<Accumulator<T>> grad_input) {
  using A = Accumulator<T>;
  for (int64_t i = thread_number(); i < g.C * g.K() * g.So(); i += thread_count()) {
    const int64_t p = i % g.So(), c = i / g.So() / g.K();
    const Tap tap{b, int(c / g.offset_group_channels()), int(i / g.So() % g.K()), p};
    const Cell<A> cell = in.cell(g, tap);
    const A share = load(columns, i) * in.modulation(g, tap);
    for (int y = 0; y < 2; ++y)
      for (int x = 0; x < 2; ++x)
        if (cell.has(y, x, g.H, g.W))
          atomic_add(grad_input, g.input_at(b, c, int64_t(cell.top + y) * g.W + cell.left + x),
                     share * cell.weight(y, x));
  }
}

/// A thread owns one tap at one pixel and sums over its channels what its offset and its mask change. `columns`: the
/// gradients of the samples of these images.
template <class T, class Column>
__global__ void backward_taps_simple(Geometry g, Inputs<T> in, Images images, Global<const Column> columns,
                                     Global<Accumulator<T>> grad_offset, Global<Accumulator<T>> grad_mask) {
  using A = Accumulator<T>;
  const int64_t taps = g.G * g.K() * g.So();
  for (int64_t i = thread_number(); i < images.count * taps; i += thread_count()) {
    const int64_t image = i / taps;
    const Tap tap{images.first + image, int(i / g.So() / g.K() % g.G), int(i / g.So() % g.K()), i % g.So()};
    const Cell<A> cell = in.cell(g, tap);
    A sum = 0, sum_y = 0, sum_x = 0;
    for (int64_t n = 0; n < g.offset_group_channels(); ++n) {
      const int64_t c = tap.g * g.offset_group_channels() + n;
      const A grad = widen(load(columns, ((image * g.C + c) * g.K() + tap.k) * g.So() + tap.p));
      A corner[2][2];
      in.corners(g, cell, tap.b, c, corner);
      sum += grad * cell.value(corner);
      sum_y += grad * cell.slope_y(corner);
      sum_x += grad * cell.slope_x(corner);
    }
    const A modulation = in.modulation(g, tap);
    const int64_t at = in.offset_index(g, tap);
    store(grad_offset, at, modulation * sum_y);
    store(grad_offset, at + g.So(), modulation * sum_x);
    if (grad_mask.data) store(grad_mask, in.mask_index(g, tap), sum);
  }
}

/// A thread computes the gradient of one weight: the sum over images and pixels of sample times output gradient.
template <class T>
__global__ void backward_weight_simple(Geometry g, Inputs<T> in, Global<const T> grad_output, Global<T> grad_weight) {
  using A = Accumulator<T>;
  for (int64_t i = thread_number(); i < g.Co * g.group_inputs() * g.K(); i += thread_count()) {
    const int k = int(i % g.K());
    const int64_t o = i / g.K() / g.group_inputs();
    const int64_t c = o / g.group_outputs() * g.group_inputs() + i / g.K() % g.group_inputs();
    A sum = 0;
    for (int64_t b = 0; b < g.B; ++b)
      for (int64_t p = 0; p < g.So(); ++p)
        sum += in.sample(g, {b, int(c / g.offset_group_channels()), k, p}, c) *
               A(widen(load(grad_output, g.output_at(b, o, p))));
    store(grad_weight, i, narrow<T>(sum));
  }
}

}  // namespace dyhead::deform_conv

// The simple kernels: one thread per channel, or per sample, and the formula inside it. They do every shape and type.
#pragma once

#include "ms_deform_attn/samples.cuh"

namespace dyhead::ms_deform_attn {

/// A thread computes one output: channel d of head m for query q, the sum over levels l and points p.
template <class T, class U>
__global__ void forward_simple(Geometry g, Inputs<T, U> in, Global<T> output) {
  using A = Accumulator<T>;
  for (int64_t i = thread_number(); i < g.outputs(); i += thread_count()) {
    const int64_t d = i % g.D, head = i / g.D, m = head % g.M, b = head / g.M / g.Q;
    A sum = 0;
    for (int l = 0; l < g.L; ++l) {
      const int H = in.height(l), W = in.width(l);
      const int64_t start = in.start(l);
      for (int p = 0; p < g.P; ++p) {
        const int64_t s = (head * g.L + l) * g.P + p;
        const Cell<A> cell = in.template cell<A>(s, H, W);
        A corner[2][2];
        in.corners(g, cell, b, start, H, W, m, d, corner);
        sum += A(widen(load(in.attention_weights, s))) * cell.value(corner);
      }
    }
    store(output, i, narrow<T>(sum));
  }
}

/// A thread owns one channel of one output gradient and adds its share to the four pixels of every sample.
template <class T, class U>
__global__ void backward_value_simple(Geometry g, Inputs<T, U> in, Global<const T> grad_output,
                                      Global<Accumulator<T>> grad_value) {
  using A = Accumulator<T>;
  for (int64_t i = thread_number(); i < g.outputs(); i += thread_count()) {
    const int64_t d = i % g.D, head = i / g.D, m = head % g.M, b = head / g.M / g.Q;
    const A grad = widen(load(grad_output, i));
    for (int l = 0; l < g.L; ++l) {
      const int H = in.height(l), W = in.width(l);
      for (int p = 0; p < g.P; ++p) {
        const int64_t s = (head * g.L + l) * g.P + p;
        const Cell<A> cell = in.template cell<A>(s, H, W);
        const A share = A(widen(load(in.attention_weights, s))) * grad;
        for (int i = 0; i < 2; ++i)
          for (int j = 0; j < 2; ++j)
            if (cell.has(i, j, H, W)) {
              const int64_t n = in.start(l) + int64_t(cell.top + i) * W + cell.left + j;
              atomic_add(grad_value, ((b * g.N + n) * g.M + m) * g.D + d, share * cell.weight(i, j));
            }
      }
    }
  }
}

/// A thread owns one sample and sums over the channels what its location and its weight change in the output.
template <class T, class U>
__global__ void backward_samples_simple(Geometry g, Inputs<T, U> in, Global<const T> grad_output,
                                        Global<U> grad_locations, Global<U> grad_weights) {
  using A = Accumulator<T>;
  for (int64_t s = thread_number(); s < g.samples(); s += thread_count()) {
    const int64_t head = s / g.P / g.L, m = head % g.M, b = head / g.M / g.Q;
    const int l = int(s / g.P % g.L), H = in.height(l), W = in.width(l);
    const Cell<A> cell = in.template cell<A>(s, H, W);
    A sum = 0, sum_y = 0, sum_x = 0;
    for (int64_t d = 0; d < g.D; ++d) {
      const A grad = widen(load(grad_output, head * g.D + d));
      A corner[2][2];
      in.corners(g, cell, b, in.start(l), H, W, m, d, corner);
      sum += grad * cell.value(corner);
      sum_y += grad * cell.slope_y(corner);
      sum_x += grad * cell.slope_x(corner);
    }
    const A weight = widen(load(in.attention_weights, s));
    store(grad_weights, s, narrow<U>(sum));
    store(grad_locations, 2 * s, narrow<U>(weight * sum_x * W));
    store(grad_locations, 2 * s + 1, narrow<U>(weight * sum_y * H));
  }
}

}  // namespace dyhead::ms_deform_attn

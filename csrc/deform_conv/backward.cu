// Launches the backward kernels for input, offset and mask.
#include "common/launch.cuh"
#include "deform_conv/deterministic.cuh"
#include "deform_conv/fast_backward.cuh"
#include "deform_conv/simple.cuh"

namespace dyhead::deform_conv {

template <class T>
static void run_simple(const Geometry& g, const Arguments& arguments, Buffer grad_output, const Gradients& gradients,
                       Buffer columns, bool deterministic, void* stream) {
  using A = Accumulator<T>;
  const Inputs<T> in(arguments);
  const int64_t all_columns = g.C * g.K() * g.So();
  for (int64_t b = 0; b < g.B; ++b) {
    const Images image{b, 1};
    launch(over(all_columns, stream), KERNEL(columns_simple<T>), g, in, global<const T>(grad_output), b,
           global<A>(columns));
    if (deterministic)
      launch(over(g.C * g.H, stream), KERNEL(backward_input_deterministic<T, A>), g, in, image,
             global<const A>(columns), global<A>(gradients.input));
    else
      launch(over(all_columns, stream), KERNEL(backward_input_simple<T>), g, in, b, global<const A>(columns),
             global<A>(gradients.input));
    launch(over(g.G * g.K() * g.So(), stream), KERNEL(backward_taps_simple<T, A>), g, in, image,
           global<const A>(columns), global<A>(gradients.offset), global<A>(gradients.mask));
  }
}

void backward(const Geometry& g, Type type, const Arguments& arguments, Buffer grad_output, const Gradients& gradients,
              Buffer columns, bool deterministic, void* stream) {
  with_type(type, [&](auto tag) {
    run_simple<typename decltype(tag)::type>(g, arguments, grad_output, gradients, columns, deterministic, stream);
  });
}

void backward_fast(const Geometry& g, Type type, bool tf32, const Arguments& arguments, Buffer grad_output,
                   const Gradients& gradients, void* stream) {
  const dim3 blocks(unsigned((all_pixels(g) + kBackwardPixels - 1) / kBackwardPixels), unsigned(g.G * g.K()));
  const Launch at{blocks, dim3(kBackwardThreads), stream, BackwardShared::kBytes};
  with_factors(type, tf32, [&](auto tag, auto factors) {
    using T = typename decltype(tag)::type;
    const BackwardArrays<T> arrays{global<const T>(grad_output), global<float>(gradients.input),
                                   global<float>(gradients.offset), global<float>(gradients.mask)};
    launch(at, KERNEL(scatter_product<T, typename decltype(factors)::type>), g, Inputs<T>(arguments), arrays);
  });
}

}  // namespace dyhead::deform_conv

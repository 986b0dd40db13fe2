// Launches the backward kernels.
#include "common/launch.cuh"
#include "deform_conv/deterministic.cuh"
#include "deform_conv/simple.cuh"

namespace dyhead::deform_conv {

template <class T>
static void run(const Geometry& g, const Arguments& arguments, Buffer grad_output, const Gradients& gradients,
                Buffer columns, bool deterministic, void* stream) {
  using A = Accumulator<T>;
  const Inputs<T> in(arguments);
  const auto grad = global<const T>(grad_output);
  const auto scatter = deterministic ? backward_input_deterministic<T> : backward_input_simple<T>;
  const int64_t all_columns = g.C * g.K() * g.So();
  for (int64_t b = 0; b < g.B; ++b) {
    launch(over(all_columns, stream), columns_simple<T>, g, in, grad, b, global<A>(columns));
    launch(over(deterministic ? g.C * g.H : all_columns, stream), scatter, g, in, b, global<const A>(columns),
           global<A>(gradients.input));
    launch(over(g.G * g.K() * g.So(), stream), backward_taps_simple<T>, g, in, b, global<const A>(columns),
           global<T>(gradients.offset), global<T>(gradients.mask));
  }
  launch(over(g.Co * g.group_inputs() * g.K(), stream), backward_weight_simple<T>, g, in, grad,
         global<T>(gradients.weight));
}

void backward(const Geometry& g, Type type, const Arguments& arguments, Buffer grad_output,
              const Gradients& gradients, Buffer columns, bool deterministic, void* stream) {
  with_type(type, [&](auto tag) {
    run<typename decltype(tag)::type>(g, arguments, grad_output, gradients, columns, deterministic, stream);
  });
}

}  // namespace dyhead::deform_conv

// Launches the backward kernels.
#include "common/launch.cuh"
#include "ms_deform_attn/deterministic.cuh"
#include "ms_deform_attn/simple.cuh"

namespace dyhead::ms_deform_attn {

template <class T, class U>
static void run(const Geometry& g, const Arguments& arguments, Buffer grad_output, const Gradients& gradients,
                bool deterministic, void* stream) {
  const Inputs<T, U> in(arguments);
  const auto grad = global<const T>(grad_output);
  const auto grad_value = global<Accumulator<T>>(gradients.value);
  if (deterministic)
    launch(over(g.N * g.B * g.M * g.D, stream), backward_value_deterministic<T, U>, g, in, grad, grad_value);
  else
    launch(over(g.outputs(), stream), backward_value_simple<T, U>, g, in, grad, grad_value);
  launch(over(g.samples(), stream), backward_samples_simple<T, U>, g, in, grad,
         global<U>(gradients.sampling_locations), global<U>(gradients.attention_weights));
}

void backward(const Geometry& g, Types types, const Arguments& arguments, Buffer grad_output,
              const Gradients& gradients, bool, bool deterministic, void* stream) {
  with_types(types, [&](auto value, auto location) {
    run<typename decltype(value)::type, typename decltype(location)::type>(g, arguments, grad_output,
                                                                           gradients, deterministic, stream);
  });
}

}  // namespace dyhead::ms_deform_attn

// Launches the backward kernels.
#include "common/launch.cuh"
#include "ms_deform_attn/deterministic.cuh"
#include "ms_deform_attn/fast.cuh"
#include "ms_deform_attn/simple.cuh"

namespace dyhead::ms_deform_attn {

template <class T, class U>
static void run_simple(const Geometry& g, const Arguments& arguments, Buffer grad_output, const Gradients& gradients,
                       bool deterministic, void* stream) {
  const Inputs<T, U> in(arguments);
  const auto grad = global<const T>(grad_output);
  const auto grad_value = global<Accumulator<T>>(gradients.value);
  if (deterministic)
    launch(over(g.N * g.B * g.M * g.D, stream), KERNEL(backward_value_deterministic<T, U>), g, in, grad, grad_value);
  else
    launch(over(g.outputs(), stream), KERNEL(backward_value_simple<T, U>), g, in, grad, grad_value);
  launch(over(g.samples(), stream), KERNEL(backward_samples_simple<T, U>), g, in, grad,
         global<U>(gradients.sampling_locations), global<U>(gradients.attention_weights));
}

template <class T, class U>
static void run_fast(const Geometry& g, const Arguments& arguments, Buffer grad_output, const Gradients& gradients,
                     void* stream) {
  launch(by_tiles<T>(g, stream), KERNEL(backward_fast<T, U>), g, Inputs<T, U>(arguments), global<const T>(grad_output),
         global<float>(gradients.value), global<U>(gradients.sampling_locations),
         global<U>(gradients.attention_weights));
}

void backward(const Geometry& g, Types types, const Arguments& arguments, Buffer grad_output,
              const Gradients& gradients, bool fast, bool deterministic, void* stream) {
  with_types(types, [&](auto value, auto location) {
    using T = typename decltype(value)::type;
    using U = typename decltype(location)::type;
    if constexpr (!std::is_same_v<T, double>)
      if (fast && !deterministic) return run_fast<T, U>(g, arguments, grad_output, gradients, stream);
    run_simple<T, U>(g, arguments, grad_output, gradients, deterministic, stream);
  });
}

}  // namespace dyhead::ms_deform_attn

// Launches the forward kernels.
#include "common/launch.cuh"
#include "ms_deform_attn/simple.cuh"

namespace dyhead::ms_deform_attn {

bool is_fast(const Geometry&, Types) { return false; }

template <class T, class U>
static void run(const Geometry& g, const Arguments& arguments, Buffer output, void* stream) {
  launch(over(g.outputs(), stream), forward_simple<T, U>, g, Inputs<T, U>(arguments), global<T>(output));
}

void forward(const Geometry& g, Types types, const Arguments& arguments, Buffer output, bool, void* stream) {
  with_types(types, [&](auto value, auto location) {
    run<typename decltype(value)::type, typename decltype(location)::type>(g, arguments, output, stream);
  });
}

}  // namespace dyhead::ms_deform_attn

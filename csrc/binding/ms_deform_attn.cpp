// Multi-scale deformable attention: tensors in, sizes checked, kernels launched, tensors out.
#include "ms_deform_attn/operator.h"

#include "binding/operators.h"

namespace dyhead {
namespace {

using namespace ms_deform_attn;

/// The numbers in spatial_shapes, (L, 2), and level_start_index, (L,), both on the CPU.
Levels levels_of(const Tensor& shapes, const Tensor& starts, int64_t L) {
  STD_TORCH_CHECK(L <= Levels::kMost, "'spatial_shapes' has ", L, " levels; the kernels take ", Levels::kMost,
                  " at most");
  const Buffer sizes = buffer(shapes, "spatial_shapes"), firsts = buffer(starts, "level_start_index");
  Levels levels{};
  for (int64_t l = 0; l < L; ++l) {
    levels.height[l] = int(static_cast<const int64_t*>(sizes.data)[2 * l]);
    levels.width[l] = int(static_cast<const int64_t*>(sizes.data)[2 * l + 1]);
    levels.start[l] = static_cast<const int64_t*>(firsts.data)[l];
  }
  return levels;
}

/// The tensors of one call, checked against each other.
struct Call {
  Geometry g;
  Types types;
  Arguments arguments;

  Call(const Tensor& value, const Tensor& shapes, const Tensor& starts, const Tensor& locations,
       const Tensor& weights) {
    const Sizes of_value = sizes_of(value, "value", 4), of_locations = sizes_of(locations, "sampling_locations", 6);
    const int64_t B = of_value[0], N = of_value[1], M = of_value[2], D = of_value[3];
    const int64_t Q = of_locations[1], L = of_locations[3], P = of_locations[4];
    g = {B, N, M, D, Q, int(L), int(P)};
    types = {type_of(value, "value"), type_of(locations, "sampling_locations")};
    const bool is_16_bit = types.value == Type::float16 || types.value == Type::bfloat16;
    STD_TORCH_CHECK(types.location == types.value || (is_16_bit && types.location == Type::float32),
                    "'sampling_locations' must have the dtype of 'value', or float32 beside a 16-bit 'value'");
    expect(value, "value", of_value, value.scalar_type(), value);
    STD_TORCH_CHECK(shapes.is_cpu(), "'spatial_shapes' must be on the CPU");
    expect(shapes, "spatial_shapes", {L, 2}, ScalarType::Long, shapes);
    expect(starts, "level_start_index", {L}, ScalarType::Long, shapes);
    expect(locations, "sampling_locations", {B, Q, M, L, P, 2}, locations.scalar_type(), value);
    expect(weights, "attention_weights", {B, Q, M, L, P}, locations.scalar_type(), value);
    arguments = {buffer(value, "value"), levels_of(shapes, starts, L), buffer(locations, "sampling_locations"),
                 buffer(weights, "attention_weights")};
  }
};

}  // namespace

Tensor ms_deform_attn_forward(Tensor value, Tensor spatial_shapes, Tensor level_start_index, Tensor sampling_locations,
                              Tensor attention_weights, std::string kernel) {
  const Call call(value, spatial_shapes, level_start_index, sampling_locations, attention_weights);
  const OnDevice device(value);
  const bool fast = choose(kernel, is_fast(call.g, call.types, call.arguments), "simple") == "fast";
  const Tensor output = torch::stable::new_empty(value, Sizes{call.g.B, call.g.Q, call.g.M * call.g.D});
  forward(call.g, call.types, call.arguments, buffer(output, "output"), fast, device.stream);
  return output;
}

std::tuple<Tensor, Tensor, Tensor> ms_deform_attn_backward(Tensor grad, Tensor value, Tensor spatial_shapes,
                                                           Tensor level_start_index, Tensor sampling_locations,
                                                           Tensor attention_weights, bool deterministic,
                                                           std::string kernel) {
  const Call call(value, spatial_shapes, level_start_index, sampling_locations, attention_weights);
  const Geometry& g = call.g;
  expect(grad, "grad", {g.B, g.Q, g.M * g.D}, value.scalar_type(), value);
  const OnDevice device(value);
  const Buffer grad_output = buffer(grad, "grad");
  const bool possible = is_fast(g, call.types, call.arguments) && is_aligned(grad_output);
  const bool fast = choose(kernel, possible, "simple") == "fast";
  const Tensor grad_value = zeros_like(value, accumulator_of(value));
  const Tensor grad_locations = torch::stable::empty_like(sampling_locations);
  const Tensor grad_weights = torch::stable::empty_like(attention_weights);
  const Gradients gradients{buffer(grad_value, "grad_value"), buffer(grad_locations, "grad_sampling_locations"),
                            buffer(grad_weights, "grad_attention_weights")};
  backward(g, call.types, call.arguments, grad_output, gradients, fast, deterministic, device.stream);
  return {torch::stable::to(grad_value, value.scalar_type()), grad_locations, grad_weights};
}

}  // namespace dyhead

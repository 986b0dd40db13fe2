// Whether this GPU runs the code in this library: Python asks through ctypes before it relies on the kernels.
#include "common/launch.cuh"

namespace dyhead {

__global__ void nothing() {}

#ifdef __CUDACC__
/// Makes a GPU the current one for as long as it lives.
struct Current {
  int before = 0;
  explicit Current(int device) {
    expect_success(cudaGetDevice(&before), "CUDA device");
    expect_success(cudaSetDevice(device), "CUDA device");
  }
  ~Current() { cudaSetDevice(before); }
};
#endif

/// Launch an empty kernel on the GPU of this number and wait for it; throws what CUDA says against it.
static void run_nothing([[maybe_unused]] int device) {
  const auto empty = KERNEL(nothing);
#ifdef __CUDACC__
  const Current current(device);
  launch({dim3(1), dim3(1), cudaStreamPerThread}, empty);
  expect_success(cudaStreamSynchronize(cudaStreamPerThread), "CUDA kernel");
#else
  launch({dim3(1), dim3(1), nullptr}, empty);
#endif
}

}  // namespace dyhead

/// Null if an empty kernel runs on the GPU of this number, else why not. Valid until the thread asks again.
extern "C" __attribute__((visibility("default"))) const char* dyhead_probe(int device) {
  static thread_local std::string problem;
  try {
    dyhead::run_nothing(device);
    return nullptr;
  } catch (const std::exception& error) {
    problem = error.what();
    return problem.c_str();
  }
}

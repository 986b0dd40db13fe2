"""Right answers of chapter 04 in another style than the book's."""

OTHER_STYLES = {
    "grey": '''
grey = cuda_kernel("""
__global__ void my_grey(const float* picture, float* result, int H, int W) {
  const int row = threadIdx.y + blockIdx.y * blockDim.y;
  const int column = threadIdx.x + blockIdx.x * blockDim.x;
  if (row < H && column < W) {
    double sum = 0;
    for (int plane = 0; plane < 3; ++plane) sum += picture[(plane * H + row) * W + column];
    result[row * W + column] = sum / 3;
  }
}
""")
''',
    "sample": '''
BILINEAR = """
__device__ float pixel(const float* plane, int step, int H, int W, int row, int column) {
  bool inside = row >= 0 && column >= 0 && row < H && column < W;
  return inside ? plane[(row * W + column) * step] : 0.0f;
}
__device__ float bilinear(const float* plane, int step, int H, int W, float y, float x) {
  int r = floorf(y), c = floorf(x);
  float dy = y - r, dx = x - c;
  float above = (1 - dx) * pixel(plane, step, H, W, r, c) + dx * pixel(plane, step, H, W, r, c + 1);
  float below = (1 - dx) * pixel(plane, step, H, W, r + 1, c) + dx * pixel(plane, step, H, W, r + 1, c + 1);
  return (1 - dy) * above + dy * below;
}
"""
sample = cuda_kernel(BILINEAR + """
__global__ void sample(const float* plane, const float* y, const float* x, float* out, int H, int W, int n) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
    out[i] = bilinear(plane, 1, H, W, y[i], x[i]);
}
""")
''',
    "sectors": """
def sectors_of(elements, element_bytes):
    import numpy as np

    return len(np.unique(np.asarray(elements) * element_bytes // 32))
""",
    "gather_last": '''
gather_last = cuda_kernel(BILINEAR + """
__global__ void gather_last(const float* in, const float* y, const float* x, float* out, int C, int H, int W, int n) {
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < n) out[i] = bilinear(&in[i % C], C, H, W, y[i / C], x[i / C]);
}
""")
''',
    "blur": '''
blur = cuda_kernel("""
__device__ float at(const float* x, int i, int n) { return i >= 0 && i < n ? x[i] : 0; }
__global__ void blur(const float* x, float* out, int n) {
  __shared__ float tile[130];
  int first = blockIdx.x * blockDim.x;
  for (int t = threadIdx.x; t < blockDim.x + 2; t += blockDim.x) tile[t] = at(x, first + t - 1, n);
  __syncthreads();
  int t = threadIdx.x;
  if (first + t < n) out[first + t] = (tile[t] + tile[t + 1] + tile[t + 2]) * (1.0f / 3);
}
""")
''',
}

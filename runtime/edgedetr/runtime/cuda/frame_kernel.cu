// A camera's frame becomes the network's input: resized, placed at the top left, normalised.
//
// The arithmetic is that of OpenCV on the CPU (INTER_LINEAR_EXACT in fixed point, INTER_AREA in
// float32, in its order), and `levels` are the values that the CPU takes from its table, so both
// give the same bits. Compile without contraction to fused multiply-adds. Tests compile this file
// as C++ and run it thread by thread beside edgedetr.runtime.preprocess.
//
// One thread makes one pixel of the input, all three channels.
//   frame   uint8 (source height, source_width, 3)
//   out     float32 (3, height, width); only (placed_height, placed_width) of it is image
//   levels  float32 (3, 256): the network's value of each grey level, by channel

#define PIXEL_OF_THIS_THREAD                                   \
    const int x = blockIdx.x * blockDim.x + threadIdx.x;       \
    const int y = blockIdx.y * blockDim.y + threadIdx.y;       \
    if (x >= width || y >= height) return;                     \
    float *pixel = out + (size_t)y * width + x;                \
    const size_t plane = (size_t)height * width;               \
    if (x >= placed_width || y >= placed_height) {             \
        for (int c = 0; c < 3; ++c) pixel[c * plane] = levels[256 * c + pad_value]; \
        return;                                                \
    }

// columns, rows: for each target, the first source index and the weight of the next, in 256ths;
// where that weight is 0 there need not be a next.
extern "C" __global__ void bilinear(
    const unsigned char *frame, float *out, const float *levels, const int *columns,
    const int *rows, int source_width, int placed_height, int placed_width, int height, int width,
    int pad_value)
{
    PIXEL_OF_THIS_THREAD
    const int left = columns[2 * x], right_weight = columns[2 * x + 1];
    const int top = rows[2 * y], bottom_weight = rows[2 * y + 1];
    const size_t across = right_weight ? 3 : 0;
    const size_t down = bottom_weight ? (size_t)3 * source_width : 0;
    const unsigned char *near_row = frame + ((size_t)top * source_width + left) * 3;
    const unsigned char *far_row = near_row + down;
    for (int c = 0; c < 3; ++c) {
        const unsigned near_value =
            near_row[c] * (256 - right_weight) + near_row[across + c] * right_weight;
        const unsigned far_value =
            far_row[c] * (256 - right_weight) + far_row[across + c] * right_weight;
        const unsigned sum = near_value * (256 - bottom_weight) + far_value * bottom_weight;
        pixel[c * plane] = levels[256 * c + ((sum + (1u << 15)) >> 16)];
    }
}

// columns, rows: for each target, where its taps start and how many they are, in the lists of
// source indices (.._taps) and weights (.._weights). `factor` multiplies the sum: with whole-numbered
// shrinking the weights are 1 and it is one over the area.
extern "C" __global__ void area(
    const unsigned char *frame, float *out, const float *levels, const int *columns,
    const int *column_taps, const float *column_weights, const int *rows, const int *row_taps,
    const float *row_weights, float factor, int source_width, int placed_height, int placed_width,
    int height, int width, int pad_value)
{
    PIXEL_OF_THIS_THREAD
    const int first_column = columns[2 * x], column_count = columns[2 * x + 1];
    const int first_row = rows[2 * y], row_count = rows[2 * y + 1];
    float sums[3] = {0.0f, 0.0f, 0.0f};
    for (int r = first_row; r < first_row + row_count; ++r) {
        const unsigned char *row = frame + (size_t)row_taps[r] * source_width * 3;
        float across[3] = {0.0f, 0.0f, 0.0f};
        for (int k = first_column; k < first_column + column_count; ++k)
            for (int c = 0; c < 3; ++c)
                across[c] += (float)row[3 * column_taps[k] + c] * column_weights[k];
        for (int c = 0; c < 3; ++c) sums[c] += across[c] * row_weights[r];
    }
    for (int c = 0; c < 3; ++c) {
        const int level = (int)rintf(sums[c] * factor);
        pixel[c * plane] = levels[256 * c + (level > 255 ? 255 : level)];
    }
}

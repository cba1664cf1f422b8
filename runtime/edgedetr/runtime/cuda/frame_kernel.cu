// A camera's frame becomes the network's input: resized, placed at the top left, normalised.
//
// The arithmetic is that of OpenCV on the CPU (INTER_LINEAR_EXACT in fixed point), and `levels` are
// the values that the CPU takes from its table, so both give the same bits. Tests compile this file
// as C++ and run it thread by thread beside edgedetr.runtime.preprocess.
//
// One thread makes one pixel, all three channels.
//   image          uint8 (rows, image_width, 3), which is read
//   columns, rows  int32 (target, 2): for each target, the first source index and the weight of the
//                  next, in 256ths; where that weight is 0 there need not be a next

static __device__ unsigned level_at(
    const unsigned char *image, int image_width, const int *column, const int *row, int c)
{
    const unsigned right_weight = column[1], bottom_weight = row[1];
    const unsigned char *near_row = image + ((size_t)row[0] * image_width + column[0]) * 3 + c;
    const unsigned char *far_row = near_row + (bottom_weight ? (size_t)3 * image_width : 0);
    const size_t across = right_weight ? 3 : 0;
    const unsigned near_value =
        near_row[0] * (256 - right_weight) + near_row[across] * right_weight;
    const unsigned far_value = far_row[0] * (256 - right_weight) + far_row[across] * right_weight;
    const unsigned sum = near_value * (256 - bottom_weight) + far_value * bottom_weight;
    return (sum + (1u << 15)) >> 16;
}

// made: uint8 (height, width, 3), the resized image
extern "C" __global__ void resize(
    const unsigned char *image, unsigned char *made, const int *columns, const int *rows,
    int image_width, int height, int width)
{
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= width || y >= height) return;
    unsigned char *pixel = made + ((size_t)y * width + x) * 3;
    for (int c = 0; c < 3; ++c)
        pixel[c] = level_at(image, image_width, columns + 2 * x, rows + 2 * y, c);
}

// out: float32 (3, height, width), of which (placed_height, placed_width) is the resized image
// levels: float32 (3, 256): the network's value of each grey level, by channel
extern "C" __global__ void resize_into_input(
    const unsigned char *image, float *out, const int *columns, const int *rows, int image_width,
    int height, int width, const float *levels, int placed_height, int placed_width, int pad_value)
{
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= width || y >= height) return;
    const bool is_image = x < placed_width && y < placed_height;
    for (int c = 0; c < 3; ++c) {
        const unsigned level = is_image
            ? level_at(image, image_width, columns + 2 * x, rows + 2 * y, c) : pad_value;
        out[((size_t)c * height + y) * width + x] = levels[256 * c + level];
    }
}

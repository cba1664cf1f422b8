// probe DATA WIDTH HEIGHT THRESHOLD CLASSES (NAME QUERIES COLUMNS)...: boxes of float32 outputs.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "nvdsinfer_custom_impl.h"

extern "C" bool NvDsInferParseEdgeDetr(std::vector<NvDsInferLayerInfo> const&,
                                       NvDsInferNetworkInfo const&,
                                       NvDsInferParseDetectionParams const&,
                                       std::vector<NvDsInferParseObjectInfo>&);

int main(int argc, char** argv) {
  std::FILE* const file = std::fopen(argv[1], "rb");
  std::vector<std::vector<float>> data;
  std::vector<NvDsInferLayerInfo> layers;
  for (int i = 6; i + 2 < argc; i += 3) {
    NvDsInferLayerInfo layer{};
    layer.layerName = argv[i];
    layer.inferDims.numDims = 2;
    for (int k = 0; k < 2; ++k) layer.inferDims.d[k] = std::atoi(argv[i + 1 + k]);
    data.emplace_back(layer.inferDims.d[0] * layer.inferDims.d[1]);
    if (std::fread(data.back().data(), sizeof(float), data.back().size(), file) != data.back().size()) {
      return 2;
    }
    layers.push_back(layer);
  }
  for (std::size_t i = 0; i < layers.size(); ++i) layers[i].buffer = data[i].data();
  const NvDsInferNetworkInfo network{static_cast<unsigned>(std::atoi(argv[2])),
                                     static_cast<unsigned>(std::atoi(argv[3])), 3};
  const unsigned classes = std::atoi(argv[5]);
  const NvDsInferParseDetectionParams params{
      classes, std::vector<float>(classes, std::strtof(argv[4], nullptr)), {}};
  std::vector<NvDsInferParseObjectInfo> found;
  if (!NvDsInferParseEdgeDetr(layers, network, params, found)) return 1;
  for (const auto& f : found) {
    std::printf("%u %.9g %.9g %.9g %.9g %.9g\n", f.classId, f.left, f.top, f.left + f.width,
                f.top + f.height, f.detectionConfidence);
  }
}

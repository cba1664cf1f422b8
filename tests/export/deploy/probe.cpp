// Print what the generated program computes of each image, in full: its input's bytes, detections.
#include "edgedetr.hpp"

#include <cstdio>
#include <exception>
#include <fstream>

#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

int main(int count, char** arguments) try {
  // PACKAGE KEY THRESHOLD INPUTS IMAGE...
  edgedetr::Options options;
  options.threshold = std::stof(arguments[3]);
  options.threads = 1;
  auto detector = edgedetr::Detector::open(arguments[1], arguments[2], options);
  std::ofstream inputs(arguments[4], std::ios::binary);
  for (int i = 5; i < count; ++i) {
    cv::Mat image = cv::imread(arguments[i], cv::IMREAD_COLOR);
    cv::cvtColor(image, image, cv::COLOR_BGR2RGB);
    const auto found = detector.detect(image);
    inputs.write(reinterpret_cast<const char*>(detector.backend().images()), INPUT_BYTES);
    std::printf("%zu\n", found.size());
    for (const auto& one : found) {
      const auto& b = one.box;
      std::printf("%d %.9g %.9g %.9g %.9g %.9g\n", one.label, b[0], b[1], b[2], b[3], one.score);
    }
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}

"""ONNX graphs: read, cut, count, check and run, for calibration and export alike."""

import edgedetr.runtime  # noqa: F401 - has to come before ONNX Runtime

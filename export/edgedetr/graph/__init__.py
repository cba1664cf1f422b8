"""ONNX graphs: read, cut, count, check and run, for calibration and export alike."""

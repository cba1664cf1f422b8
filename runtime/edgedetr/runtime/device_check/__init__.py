"""What a device runs, how fast, and whether it finds what the ONNX model finds."""

"""Turn a checkpoint into ONNX and ONNX into what an engine builder wants."""

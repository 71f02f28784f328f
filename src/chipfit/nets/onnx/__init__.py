"""Networks from and to ONNX."""

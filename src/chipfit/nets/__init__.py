"""Networks as PyTorch modules, from PyTorch, to and from ONNX, with weights that are inherited; the baselines."""

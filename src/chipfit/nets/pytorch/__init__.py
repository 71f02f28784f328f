"""Networks from PyTorch modules, and as plain PyTorch code."""

"""The pieces that an accelerator works on an output in, one after the other."""

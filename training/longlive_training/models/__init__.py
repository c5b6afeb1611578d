"""The three networks of a model package, in plain PyTorch with the parameter names of the Wan2.1 reference."""

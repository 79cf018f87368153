"""Memory by following the model's own code on fake tensors; what needs torch runs in a process of its own."""

"""Will it fit? The peak memory of a training run, told before the GPU is touched."""

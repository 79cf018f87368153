"""Will it fit? The peak memory of a training run, known before the GPU is touched."""

"""tunekit: the right ms-swift run for this model, this data and this GPU."""

__version__ = "0.1.0"

# As ms-swift writes it.
__version__ = "4.6.0"

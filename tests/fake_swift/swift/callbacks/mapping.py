"""The callbacks that the stand-in knows; tunekit reads the names."""

callbacks_map = {"graceful_exit": None}

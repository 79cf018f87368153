"""All that knows ms-swift: where it is, which flags it takes, how it is started, how it fails."""

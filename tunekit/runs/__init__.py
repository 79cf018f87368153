"""A run: its folder, its process, its retries, what it shows and what it leaves behind."""

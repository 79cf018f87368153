"""Functions of the user's: found, tried, called."""

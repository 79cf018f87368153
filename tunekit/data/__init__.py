"""Look at a dataset before a run pays for finding out that it is wrong."""

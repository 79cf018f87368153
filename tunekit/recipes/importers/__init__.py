"""Other tools' configurations, each a table of what their keys are here and a few functions."""

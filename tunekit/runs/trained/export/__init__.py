"""From a trained model to files that other programs use, each looked at before it counts as done."""

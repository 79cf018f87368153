"""What is known of models: names, shapes, parameters."""

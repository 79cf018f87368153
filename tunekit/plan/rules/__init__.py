"""What does not go together, and what is made of it."""

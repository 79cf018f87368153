"""What is done with a result: use, merge, answer, chat, score."""

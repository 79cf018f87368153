"""How long will it take: the closed form of a step, and the cards it knows."""

"""All drawing: plans, runs, recipes, memory, pictures."""

"""Recipes: several stages of training in one file, each starting from what an earlier one left."""

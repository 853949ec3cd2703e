"""The recipes: one file per stage, read from top to bottom."""

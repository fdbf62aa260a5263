"""A whole broker under garbage."""

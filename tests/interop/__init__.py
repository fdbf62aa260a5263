"""Other people's clients against the broker."""

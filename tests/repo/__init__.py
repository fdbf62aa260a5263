"""What the repository says of itself is true: README, changelog, metadata, house rules."""

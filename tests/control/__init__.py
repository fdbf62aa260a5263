"""The control plane without a broker: decisions against a fake world and a fake clock."""

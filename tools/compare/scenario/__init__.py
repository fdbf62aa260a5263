"""What is asked, in order: topics, records, groups, the cluster."""

"""The `mqlog` command, as its users run it: a process, its output, its exit code."""

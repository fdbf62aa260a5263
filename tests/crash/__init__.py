"""Crash tests of a broker in a process of its own: SIGKILL, power loss, a full disk, lost calls."""

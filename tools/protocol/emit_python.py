"""Python: stub for now."""
def python_files(): return {}

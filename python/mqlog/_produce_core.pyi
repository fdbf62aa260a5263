# Nothing here is for Python.

__all__: list[str] = []

from typing import Any

__all__ = ["Source", "sources"]

class Source:
    def __len__(self) -> int: ...

def sources(data: Any, key: Any) -> list[Source]: ...

"""A hash of the code that a stage runs, so that what older code made is made again, and nothing else is."""

import ast
import functools
import hashlib
import importlib.util
from pathlib import Path

_ROOM = "gpt2lab.corpus"


@functools.cache
def code_version(module: str) -> str:
    """SHA-256 (its first 16 hexadecimal digits) of a module and of all it imports from the corpus floor.

    What lies on other floors is not counted: it does not decide what becomes of a document, or (tokenizers)
    is named by its own fingerprint in the stage's parameters.
    """
    seen: dict[str, bytes] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in seen and (path := _source(name)):
            seen[name] = path.read_bytes()
            waiting += _imported(seen[name])
    digest = hashlib.sha256()
    for name in sorted(seen):
        digest.update(name.encode() + b"\0" + hashlib.sha256(seen[name]).digest())
    return digest.hexdigest()[:16]


def _source(module: str) -> Path | None:
    spec = importlib.util.find_spec(module) if module.startswith(_ROOM) else None
    return Path(spec.origin) if spec and spec.origin else None


def _imported(source: bytes) -> list[str]:
    """Modules of the corpus floor that a source imports, anywhere in it."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            if node.module == _ROOM:
                names += [f"{_ROOM}.{alias.name}" for alias in node.names]
    return [name for name in names if name.startswith(f"{_ROOM}.")]

"""What determines a result, and its hash: the name of a cell's folder.

In: dataset, task, solver settings, the prior's weights, seed, precision, kernels, and the code of the solver and the
operator (as syntax trees, so that comments and docstrings do not count). Out: paths, device, batch size, number of
images, logging. A solver that was edited is another solver; its old records stay, and are not taken for its new ones.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import sys
from typing import Any

import numpy as np

WHERE_NOT_WHAT = {"root", "weights", "checkpoint", "card"}
"""Keys that say where something lies or comes from: another folder is no other result."""


def content_hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]


def without_paths(settings: Any) -> Any:
    if isinstance(settings, dict):
        return {k: without_paths(v) for k, v in settings.items() if k not in WHERE_NOT_WHAT}
    return settings


def object_settings(value: Any) -> Any:
    """What an object was set to, as plain values: its attributes, theirs, and the hash of any array."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {str(key): object_settings(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [object_settings(item) for item in value]
    if hasattr(value, "__array__"):
        return hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:12]
    return {"class": type(value).__qualname__, **object_settings(getattr(value, "__dict__", {}))}


def code_hash(*objects: object) -> str:
    """Hash of the code of the modules that define the objects' classes and their bases, within this project."""
    modules = {base.__module__ for obj in objects for base in type(obj).__mro__ if base is not object}
    return content_hash({module: _syntax(module) for module in sorted(modules)})


def _syntax(module: str) -> str:
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError, KeyError):  # typed into a prompt: no source to read
        return module
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            _drop_docstring(node)
    return ast.dump(tree)


def _drop_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    first = node.body[0] if node.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        node.body = node.body[1:]

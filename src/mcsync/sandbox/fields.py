"""`fields` and `exclude_fields`: dotted paths counted from the root of the answer (MC 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import problems

Tree = dict[str, Any]
"""Path segments; an empty branch means everything below."""


def _tree(text: str) -> Tree:
    root: Tree = {}
    for path in text.split(","):
        branch = root
        for part in filter(None, path.strip().split(".")):
            branch = branch.setdefault(part, {})
    return root


def _keep(value: Any, tree: Tree) -> Any:
    if not tree:
        return value
    if isinstance(value, list):
        return [_keep(each, tree) for each in value]
    if isinstance(value, dict):
        return {name: _keep(value[name], branch) for name, branch in tree.items() if name in value}
    return value


def _drop(value: Any, tree: Tree) -> Any:
    """A copy without the named parts. Copied, because parts of an answer may be the sandbox's own data."""
    if isinstance(value, list):
        return [_drop(each, tree) for each in value]
    if not isinstance(value, dict):
        return value
    left = dict(value)
    for name, branch in tree.items():
        if not branch:
            left.pop(name, None)
        elif name in left:
            left[name] = _drop(left[name], branch)
    return left


@dataclass(slots=True, frozen=True)
class Selection:
    """A parsed pair of parameters."""

    include: Tree
    exclude: Tree

    @classmethod
    def parse(cls, include: str, exclude: str) -> Selection:
        """Both at once are refused: they exclude each other."""
        if include and exclude:
            raise problems.bad_request(
                "The fields and exclude_fields parameters are mutually exclusive."
            )
        return cls(_tree(include), _tree(exclude))

    def wants(self, *path: str) -> bool:
        """Whether a part of the answer is wanted at all, so that costly parts need not be built."""
        branch = self.exclude
        for place, part in enumerate(path):
            if part not in branch:
                break
            branch = branch[part]
            if place == len(path) - 1 and not branch:
                return False
        branch = self.include
        for part in path:
            if not branch:
                return True
            if part not in branch:
                return False
            branch = branch[part]
        return True

    def apply(self, body: dict[str, Any]) -> dict[str, Any]:
        """The selected part; an unknown name at the root is an error."""
        if self.include:
            if unknown := [name for name in self.include if name not in body]:
                raise problems.Problem(
                    400,
                    "Requested Fields Invalid",
                    f"Unknown fields requested: {', '.join(unknown)}",
                )
            body = _keep(body, self.include)
        elif self.exclude:
            body = _drop(body, self.exclude)
        return body

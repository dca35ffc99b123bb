"""The API in this process and callers with different rights."""

from tests.features.contacts.callers import anyone, app, editor, stranger, viewer

__all__ = ["anyone", "app", "editor", "stranger", "viewer"]

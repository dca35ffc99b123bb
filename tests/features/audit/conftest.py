"""The API in this process."""

from tests.core.conftest import *  # noqa: F403 - fixtures are found by their names

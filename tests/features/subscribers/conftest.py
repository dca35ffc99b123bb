"""Fixtures shared by the features around audiences."""

from tests.features.connection.bench import *  # noqa: F403 - fixtures are found by their names

"""The world of the sync's tests, whose Mailchimp takes every position of every switch."""

from __future__ import annotations

from tests.features.sync.conftest import (  # noqa: F401 - fixtures
    configure,
    more_settings,
    sandbox,
    sandbox_process,
    template,
    world,
)

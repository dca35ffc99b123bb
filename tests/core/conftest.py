"""The API in this process, with a token of each role."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from fastapi import FastAPI

from mcsync.core.auth import Role
from mcsync.core.resources import Resources
from tests.core.api import client_of, make_app, make_token
from tests.support.logs import captured_logs
from tests.support.organisations import Org


@pytest.fixture(autouse=True)
def log() -> Iterator[io.StringIO]:
    """What is logged during the test, as an operator would get it."""
    with captured_logs() as stream:
        yield stream


@pytest.fixture
def app(resources: Resources) -> FastAPI:
    """The real app with the probe's routes."""
    return make_app(resources)


@pytest.fixture
async def anonymous(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A caller without a token."""
    async with client_of(app) as client:
        yield client


@pytest.fixture
async def owner(
    app: FastAPI, resources: Resources, organisation: Org
) -> AsyncIterator[httpx.AsyncClient]:
    """A caller who may do everything."""
    token = await make_token(resources, organisation)
    async with client_of(app, token.token) as client:
        yield client


@pytest.fixture
async def viewer(
    app: FastAPI, resources: Resources, organisation: Org
) -> AsyncIterator[httpx.AsyncClient]:
    """A caller who may only read."""
    token = await make_token(resources, organisation, Role.VIEWER)
    async with client_of(app, token.token) as client:
        yield client

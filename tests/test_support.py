"""The test bench itself: its databases are migrated, empty, apart, and bound by row-level security."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from mcsync.core.db import migrations
from mcsync.core.resources import Resources
from tests.support.network import LeftTheMachineError
from tests.support.organisations import Org

if TYPE_CHECKING:
    from tests.conftest import MakeContacts


async def test_the_database_is_at_the_head_of_the_migrations(resources: Resources) -> None:
    async with resources.db.system() as session:
        at = await session.scalar(text("select version_num from alembic_version"))
    assert at == migrations.head()


def test_the_models_are_what_the_migrations_make(superuser_url: str) -> None:
    migrations.check(superuser_url)


def test_the_migrations_can_be_taken_back_and_made_again(superuser_url: str) -> None:
    migrations.downgrade(superuser_url)
    migrations.upgrade(superuser_url)
    migrations.check(superuser_url)


async def test_contacts_are_seeded_in_one_go_and_seen_by_their_organisation_only(
    resources: Resources,
    organisation: Org,
    other_organisation: Org,
    make_contacts: MakeContacts,
    onlooker: asyncpg.Connection,
) -> None:
    assert len(await make_contacts(300)) == 300
    await make_contacts(2, org=other_organisation)
    for org, count in ((organisation, 300), (other_organisation, 2)):
        async with resources.db.transaction(org.id) as session:
            assert await session.scalar(text("select count(*) from contacts")) == count
    assert await onlooker.fetchval("select count(*) from contacts") == 302


async def test_the_api_answers_the_owner_and_nobody_without_a_token(
    api: httpx.AsyncClient, app: FastAPI
) -> None:
    assert (await api.get("/mailchimp/connection/get")).json() is None
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://mcsync.test"
    ) as anonymous:
        assert (await anonymous.get("/mailchimp/connection/get")).status_code == 401


def test_no_test_leaves_this_machine() -> None:
    with socket.socket() as probe, pytest.raises(LeftTheMachineError):
        probe.connect(("192.0.2.1", 443))
    with pytest.raises(LeftTheMachineError):
        socket.getaddrinfo("mailchimp.com", 443)

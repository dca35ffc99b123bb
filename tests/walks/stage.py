"""Two organisations side by side, each with something in everything, on real servers."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
from fastapi import FastAPI
from pydantic import SecretStr
from redis import Redis
from sqlalchemy import Table, text

from mcsync.app import create_app
from mcsync.core.auth import Actor, Role
from mcsync.core.resources import Resources
from mcsync.core.settings import Settings
from mcsync.features.erasure import work as erasures
from mcsync.features.sources import service as sources
from mcsync.features.sources.pulls import Wish
from mcsync.features.sources.service import NewSource
from mcsync.features.sync import execute
from mcsync.features.transactional import handover
from mcsync.features.webhooks import registration
from mcsync.models import Base
from tests.support.databases import Databases
from tests.support.organisations import Org, make_organisation, make_token
from tests.support.sandbox import SandboxControl, SandboxProcess
from tests.support.servers import TEMPLATE, Addresses
from tests.walks.description import Operation, operation

LIVE = {"queued", "pulling", "planning", "pushing"}
NOT_TENANTS = {"job_ticks", "worker_heartbeats"}
TENANT_TABLES: dict[str, Table] = {
    name: table for name, table in Base.metadata.tables.items() if name not in NOT_TENANTS
}
_TOUCHED_BY_READING = {"service_tokens"}
"""Their row tells when the token was last used."""


def org_column(table: str) -> str:
    """The column that says whose row it is."""
    return "id" if table == "organisations" else "org_id"


@dataclass
class Call:
    """What to send to an operation."""

    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    content: bytes | None = None
    content_type: str = ""


@dataclass
class Tenant:
    """An organisation, its callers, and the ids of what it has."""

    org: Org
    tokens: dict[Role, str]
    api: httpx.AsyncClient
    api_key: str
    mail_key: str
    list_id: str
    word: str
    """Stands in every text that is this organisation's, and in no other's."""
    ids: dict[str, str] = field(default_factory=dict)

    def email(self, number: int) -> str:
        return f"person{number}@{self.word}.example"

    def entity(self, number: int) -> dict[str, str]:
        return {"entityType": "employee", "entityId": f"{self.word}-{number}"}

    def contact(self, number: int, **given: Any) -> dict[str, Any]:
        return {
            **self.entity(number),
            "email": self.email(number),
            "firstName": f"Ada {self.word}",
            "lastName": f"Lindqvist {self.word}",
            "department": f"Sales {self.word}",
            "optStatus": "opted_in",
        } | given

    def message(self, number: int, **given: Any) -> dict[str, Any]:
        return {
            "to": [{"email": self.email(number), "name": f"Ada {self.word}"}],
            "fromEmail": f"us@{self.word}.example",
            "subject": f"For Ada {self.word}",
            "text": f"Hello Ada {self.word}",
        } | given

    @property
    def marks(self) -> list[str]:
        """Texts that no other organisation may ever be shown."""
        return [
            self.word,
            self.api_key,
            self.mail_key,
            self.list_id,
            str(self.org.id),
            *self.ids.values(),
        ]

    async def call(self, name: str, *, api: httpx.AsyncClient | None = None) -> httpx.Response:
        """The operation's valid call, as this organisation's owner or as somebody else."""
        return await send(api or self.api, operation(name), valid_call(name, self))

    async def done(self, name: str, call: Call) -> Any:
        """Calls and answers the body of what must be a success."""
        answer = await send(self.api, operation(name), call)
        assert answer.is_success, f"{name}: {answer.status_code} {answer.text}"
        return answer.json()


async def send(
    api: httpx.AsyncClient, op: Operation, call: Call, headers: Mapping[str, str] | None = None
) -> httpx.Response:
    """Sends a call."""
    sent = dict(headers or {})
    if call.content is not None:
        sent["Content-Type"] = call.content_type
        return await api.request(
            op.method, op.path, params=dict(call.query), content=call.content, headers=sent
        )
    body = {} if call.body is None else {"json": call.body}
    return await api.request(op.method, op.path, params=dict(call.query), headers=sent, **body)


def valid_call(name: str, tenant: Tenant) -> Call:
    """A call of the operation that succeeds for the tenant as :func:`furnish` leaves it."""
    return valid_calls(tenant)[name]


def valid_calls(tenant: Tenant) -> dict[str, Call]:
    """One for each operation, in an order in which they can all be made; later ones may end things."""
    ids, here, segment = tenant.ids, {"audienceId": tenant.list_id}, {"id": tenant.ids["plain"]}
    csv = f"entityType,entityId,email\nemployee,{tenant.word}-90,{tenant.email(90)}\n"
    stated = (
        f"entityType,entityId,optStatus,form\nemployee,{tenant.word}-1,opted_in,{tenant.word}\n"
    )
    return {
        "health_live": Call(),
        "health_ready": Call(),
        "connection_get": Call(),
        "connection_list_audiences": Call(),
        "connection_connect": Call(body={"apiKey": tenant.api_key}),
        "audiences_get": Call(here),
        "audiences_create_merge_fields": Call(
            body={**here, "fields": [{"tag": "WALK", "name": "Walk", "type": "text"}]}
        ),
        "audiences_set_merge_fields": Call(body={**here, "map": {"FNAME": "lastName"}}),
        "audiences_set_marketing_permissions": Call(body={**here, "permissions": []}),
        "contacts_upsert": Call(
            body={"contacts": [tenant.contact(80), tenant.contact(1, email="-")]}
        ),
        "contacts_import": Call(content=csv.encode(), content_type="text/csv"),
        "contacts_get_import": Call({"id": ids["import"]}),
        "contacts_list": Call({"search": tenant.email(1), "department": f"Sales {tenant.word}"}),
        "contacts_get": Call(tenant.entity(1)),
        "contacts_explain": Call(tenant.entity(1)),
        "contacts_delete": Call(body=tenant.entity(5)),
        "preferences_get_for_entity": Call(tenant.entity(1)),
        "preferences_list": Call({"status": "opted_in", "limit": "1"}),
        "preferences_update_opt_status": Call(
            body={
                **tenant.entity(4),
                "status": "opted_out",
                "source": f"form {tenant.word}",
                "proof": {"form": "/newsletter"},
            }
        ),
        "preferences_import": Call(content=stated.encode(), content_type="text/csv"),
        "preferences_get_import": Call({"id": ids["statements"]}),
        "preferences_history": Call(tenant.entity(3)),
        "preferences_gdpr_delete": Call(body=tenant.entity(7)),
        "preferences_get_erasure": Call({"id": ids["erased"]}),
        "preferences_list_erasures": Call({"status": "open", "limit": "1"}),
        "preferences_export_entity": Call(tenant.entity(1)),
        "preferences_close_erasure_target": Call(
            body={"id": ids["target"], "reason": "The account was closed."}
        ),
        "preferences_lift_suppression": Call(
            body={
                **tenant.entity(8),
                "source": "paper form",
                "consentGivenAt": ids["later"],
                "proof": {"evidence": "box 7"},
            }
        ),
        "subscribers_get_status": Call({**here, "email": tenant.email(1)}),
        "subscribers_list_requests": Call({**here, "limit": "1"}),
        "subscribers_subscribe": Call(
            body={
                **here,
                "email": tenant.email(60),
                "mergeFields": {"FNAME": f"Ada {tenant.word}"},
                "source": f"form {tenant.word}",
                "proof": {"form": "/newsletter"},
            }
        ),
        "subscribers_update": Call(
            body={**here, "email": tenant.email(1), "mergeFields": {"FNAME": f"Ada {tenant.word}"}}
        ),
        "subscribers_unsubscribe": Call(body={**here, "email": tenant.email(61)}),
        "subscribers_archive": Call(body={**here, "email": tenant.email(2)}),
        "subscribers_create_or_update": Call(
            body={**here, "email": tenant.email(62), "strategy": "create_first"}
        ),
        "campaigns_list": Call({"search": tenant.word, "limit": "1"}),
        "campaigns_get": Call({"id": ids["tracked"]}),
        "campaigns_track_campaign": Call(body={"campaignId": ids["campaign"]}),
        "campaigns_refresh_stats": Call(body={"id": ids["tracked"]}),
        "campaigns_list_available": Call({"search": tenant.word}),
        "campaigns_history": Call({"id": ids["tracked"]}),
        "campaigns_set_auto_tracking": Call(body={"enabled": True}),
        "campaigns_untrack": Call(body={"id": ids["let_go"]}),
        "segments_list": Call({"segmentType": "mixed"}),
        "segments_get": Call(segment),
        "segments_create": Call(
            body={
                "name": f"Created {tenant.word}",
                "segmentType": "mixed",
                **here,
                "filters": {"department": [f"Sales {tenant.word}"]},
            }
        ),
        "segments_update": Call(body={**segment, "description": f"Changed {tenant.word}"}),
        "segments_preview": Call(body={**segment, "sample": 5}),
        "segments_sync": Call(body={**segment, "dryRun": True}),
        "segments_list_runs": Call({"segmentId": ids["synced"], "limit": "1"}),
        "segments_get_run": Call({"id": ids["run"]}),
        "segments_list_changes": Call({"id": ids["run"]}),
        "segments_watch_run": Call({"id": ids["run"]}),
        "segments_approve_run": Call(body={"id": ids["held"]}),
        "segments_cancel_run": Call(body={"id": ids["queued"]}),
        "segments_delete": Call(body={"id": ids["doomed"]}),
        "webhooks_list": Call({"limit": "1"}),
        "webhooks_rotate": Call(body=here),
        "sources_list": Call({"limit": "1"}),
        "sources_get": Call({"id": ids["source"]}),
        "sources_pull": Call(body={"id": ids["source"]}),
        "sources_get_pull": Call({"id": ids["pull"]}),
        "sources_list_pulls": Call({"sourceId": ids["source"]}),
        "transactional_get_connection": Call(),
        "transactional_connect": Call(body={"apiKey": tenant.mail_key}),
        "transactional_send": Call(
            body={
                **tenant.message(1),
                "mergeVars": {"FNAME": "Ada"},
                "metadata": {"signup": 4711},
                "attachments": [{"name": "a.txt", "type": "text/plain", "content": "eA=="}],
            }
        ),
        "transactional_send_template": Call(
            body={
                "template": f"welcome-{tenant.word}",
                "templateContent": {"main": "<b>x</b>"},
                "to": [{"email": tenant.email(1)}],
            }
        ),
        "transactional_get": Call({"id": ids["sent"]}),
        "transactional_list": Call({"email": tenant.email(2), "limit": "1"}),
        "transactional_cancel": Call(body={"id": ids["scheduled"]}),
        "transactional_resend": Call(body={"id": ids["unconfirmed"]}),
        "transactional_list_templates": Call(),
        "transactional_render_template": Call(body={"template": f"welcome-{tenant.word}"}),
        "transactional_list_rejects": Call({"email": tenant.email(2)}),
        "audit_list": Call({"entityId": ids["held"]}),
        "audit_export": Call({"entityId": ids["held"], "format": "csv"}),
        "audit_verify": Call(),
        "transactional_disconnect": Call(),
        "connection_disconnect": Call(),
    }


async def furnish(tenant: Tenant, resources: Resources) -> None:
    """Gives the organisation a connection, contacts, consent, an import, segments, and runs in several states."""
    ids = tenant.ids
    found = await tenant.done("connection_connect", Call(body={"apiKey": tenant.api_key}))
    ids["connection"] = found["id"]
    await tenant.done("connection_list_audiences", Call())
    people = [tenant.contact(number) for number in (*range(1, 6), 7, 8, 9)]
    people.append(tenant.contact(6, department=f"Other {tenant.word}"))
    await tenant.done("contacts_upsert", Call(body={"contacts": people}))
    csv = f"entityType,entityId,email\nvendor,{tenant.word}-70,{tenant.email(70)}\nvendor,,nobody\n"
    report = await tenant.done(
        "contacts_import", Call(content=csv.encode(), content_type="text/csv")
    )
    assert report["rejected"] == 1, report
    ids["import"] = report["id"]
    csv = f"entityType,entityId,optStatus\nemployee,{tenant.word}-2,opted_in\nemployee,nobody,opted_in\n"
    report = await tenant.done(
        "preferences_import", Call(content=csv.encode(), content_type="text/csv")
    )
    assert (report["unchanged"], report["rejected"]) == (1, 1), report
    ids["statements"] = report["id"]
    for name in ("synced", "waiting", "plain", "doomed"):
        # nobody else claims the members of the first
        department = "Sales" if name == "synced" else "Other"
        body = {
            "name": f"{name} {tenant.word}", "segmentType": "mixed", "audienceId": tenant.list_id,
            "filters": {"department": [f"{department} {tenant.word}"]},
        }  # fmt: skip
        ids[name] = (await tenant.done("segments_create", Call(body=body)))["id"]
    # nobody can reach this process, so its webhooks stay to be registered
    await registration.check_organisation(resources, tenant.org.id)
    ids["run"] = await _sync(tenant, resources, "synced", "succeeded")
    # the guard of the stage lets nobody be removed unasked
    body = {"id": ids["synced"], "filters": {"department": [f"Nobody {tenant.word}"]}}
    await tenant.done("segments_update", Call(body=body))
    ids["held"] = await _sync(tenant, resources, "synced", "awaiting_approval")
    queued = await tenant.done("segments_sync", Call(body={"id": ids["waiting"]}))
    ids["queued"] = queued["id"]
    for name in ("tracked", "let_go"):
        tracked = await tenant.done(
            "campaigns_track_campaign", Call(body={"campaignId": ids[f"campaign_{name}"]})
        )
        ids[name] = tracked["id"]
    await _furnish_source(tenant, resources)
    await _furnish_mail(tenant, resources)
    out = {**tenant.entity(3), "status": "opted_out", "source": f"form {tenant.word}"}
    await tenant.done("preferences_update_opt_status", Call(body=out))
    await _erase(tenant, resources)


async def _erase(tenant: Tenant, resources: Resources) -> None:
    """One erasure that is done, and one that waits for an account which is not connected."""
    ids = tenant.ids
    erased = await tenant.done("preferences_gdpr_delete", Call(body=tenant.entity(8)))
    ids["erased"] = erased["id"]
    await erasures.work_on(
        resources, tenant.org.id, UUID(erased["id"]), owner="walk", stopping=asyncio.Event()
    )
    done = await tenant.done("preferences_get_erasure", Call({"id": erased["id"]}))
    assert done["status"] == "done", done
    ids["later"] = (resources.clock() + timedelta(seconds=1)).isoformat()
    async with resources.db.transaction(tenant.org.id) as session:
        await session.execute(
            text(
                """with gone as (
                       insert into audiences (org_id, account_id, list_id, name)
                       values (:org, 'closed' || :list, 'closed' || :list, 'Closed')
                       returning id, org_id)
                   insert into audience_members (org_id, audience_id, address_hash, status)
                   select g.org_id, g.id, c.address_hash, 'subscribed' from gone g
                   join contacts c on c.entity_id = :entity"""
            ),
            {"org": tenant.org.id, "list": tenant.list_id, "entity": tenant.entity(9)["entityId"]},
        )
    waiting = await tenant.done("preferences_gdpr_delete", Call(body=tenant.entity(9)))
    ids["erasure"] = waiting["id"]
    (target,) = [t for t in waiting["targets"] if t["accountId"].startswith("closed")]
    ids["target"] = target["id"]


SOURCE_PASSWORD = "canary-s0urce-passw0rd"
"""In the URL of each organisation's source, where nobody listens."""


async def _furnish_source(tenant: Tenant, resources: Resources) -> None:
    """A source that cannot be reached, and a pull that failed for it."""
    actor = Actor.cli(tenant.org.id, "op")
    source = NewSource(
        name=f"hr {tenant.word}", url=f"postgresql://{tenant.word}:{SOURCE_PASSWORD}@127.0.0.1:9/hr",
        query=f"select '{tenant.word}' as entity_id, 'vendor' as entity_type, mail as email from t",
        mode="full", columns={}, constants={},
    )  # fmt: skip
    made = await sources.add(resources, actor, source, check=False)
    tenant.ids["source"] = str(made.id)
    pulled, _ = await sources.pull_now(resources, actor, source.name, Wish(), owner="walk")
    assert pulled.status == "failed", pulled
    tenant.ids["pull"] = str(pulled.id)


async def _furnish_mail(tenant: Tenant, resources: Resources) -> None:
    """A message that went out, one for later, one of which nobody knows."""
    ids = tenant.ids
    found = await tenant.done("transactional_connect", Call(body={"apiKey": tenant.mail_key}))
    ids["mail_connection"] = found["id"]
    later = {"sendAt": (datetime.now(UTC) + timedelta(days=3)).isoformat()}
    for name, given in (("sent", {}), ("scheduled", later), ("unconfirmed", {})):
        body = tenant.message(2, **given)
        ids[name] = (await tenant.done("transactional_send", Call(body=body)))["id"]
    await handover.work_on(resources, tenant.org.id, UUID(ids["sent"]), owner="walk")
    async with resources.db.transaction(tenant.org.id) as session:
        await session.execute(
            text("update transactional_messages set status = 'unconfirmed' where id = :id"),
            {"id": UUID(ids["unconfirmed"])},
        )


async def _sync(tenant: Tenant, resources: Resources, segment: str, status: str) -> str:
    run = await tenant.done("segments_sync", Call(body={"id": tenant.ids[segment]}))
    await work(tenant, resources, run["id"])
    ended = await tenant.done("segments_get_run", Call({"id": run["id"]}))
    assert ended["status"] == status, ended
    return str(run["id"])


async def work(tenant: Tenant, resources: Resources, run_id: str) -> None:
    """What a worker does with a run that it was rung for."""
    await execute.work_on(
        resources, tenant.org.id, UUID(run_id), owner="walk", stopping=asyncio.Event()
    )


@dataclass
class Stage:
    """The servers, the app and the two organisations."""

    resources: Resources
    app: FastAPI
    onlooker: asyncpg.Connection
    service_url: str
    sandbox: SandboxControl
    exits: AsyncExitStack
    ours: Tenant = field(init=False)
    theirs: Tenant = field(init=False)

    async def client(self, token: str | None = None) -> httpx.AsyncClient:
        """A caller in this process; a crash comes as the answer that a user would get."""
        return await self.exits.enter_async_context(
            httpx.AsyncClient(
                transport=httpx.ASGITransport(self.app, raise_app_exceptions=False),
                base_url="http://mcsync.test",
                headers={"Authorization": f"Bearer {token}"} if token else {},
            )
        )

    async def tenant(self, word: str) -> Tenant:
        """An organisation with an account of its own and nothing else."""
        org = await make_organisation(self.resources, f"Organisation {word}")
        tokens = {role: await make_token(self.resources, org, role) for role in Role}
        api_key = f"{uuid4().hex}-us1"
        account = await self.sandbox.open_account(
            api_key, name=f"Account {word}", lists=[f"People {word}"]
        )
        mail_key = f"md-{uuid4().hex[:22]}"
        await self.sandbox.open_mandrill(mail_key, username=f"mail {word}")
        await self.sandbox.add_mail_template(f"Welcome {word}", "<p>Hello</p>", key=mail_key)
        api = await self.client(tokens[Role.OWNER])
        list_id = account["lists"][0]["id"]
        made = await self.sandbox.make_campaigns(list_id, count=3, title=f"News {word}")
        names = ("campaign", "campaign_tracked", "campaign_let_go")
        ids = {name: one["id"] for name, one in zip(names, made, strict=True)}
        return Tenant(org, tokens, api, api_key, mail_key, list_id, word, ids)

    async def rows(self, org: Org) -> dict[str, Any]:
        """Everything an organisation has in the database."""
        return {
            name: await self.onlooker.fetch(
                f"select t::text as t from {name} t where {org_column(name)} = $1 order by 1",
                org.id,
            )
            for name in TENANT_TABLES
            if name not in _TOUCHED_BY_READING
        }

    async def state(self) -> dict[str, tuple[int, int]]:
        """For each table the number of its rows and the youngest transaction that wrote one."""
        names = sorted(set(Base.metadata.tables) - _TOUCHED_BY_READING)
        row = await self.onlooker.fetchrow(
            "select "
            + ", ".join(
                f"(select array[count(*), coalesce(max(xmin::text::bigint), 0)] from {name})"
                for name in names
            )
        )
        assert row is not None
        return {name: tuple(value) for name, value in zip(names, row.values(), strict=True)}


@asynccontextmanager
async def open_stage(
    servers: Addresses,
    databases: Databases,
    mailchimp: SandboxProcess,
    redis_number: int,
) -> AsyncIterator[Stage]:
    """A database of its own with both organisations furnished."""
    name = await databases.take(TEMPLATE)
    redis_url = servers.redis_url(redis_number)
    with Redis.from_url(redis_url) as redis:
        redis.flushdb()
    settings = Settings(
        database_url=SecretStr(servers.service_url(name)),
        redis_url=SecretStr(redis_url),
        master_keys={"walk": SecretStr(base64.b64encode(os.urandom(32)).decode())},
        mailchimp_url=mailchimp.url,
        mandrill_url=mailchimp.mandrill_url,
        database_pool_size=4,
        guard_removals_min=0,
        guard_removals_share=0,
        max_body_bytes=64 * 1024,
        public_url="http://127.0.0.1:9",
    )
    async with AsyncExitStack() as exits:
        resources = await Resources.build(settings)
        exits.push_async_callback(resources.close)
        onlooker = await asyncpg.connect(servers.superuser_url(name))
        exits.push_async_callback(onlooker.close)
        sandbox = await exits.enter_async_context(SandboxControl(mailchimp.control))
        stage = Stage(
            resources, create_app(resources=resources), onlooker, servers.service_url(name),
            sandbox, exits,
        )  # fmt: skip
        stage.ours = await stage.tenant("aurora" + uuid4().hex[:6])
        stage.theirs = await stage.tenant("borealis" + uuid4().hex[:6])
        for tenant in (stage.ours, stage.theirs):
            await furnish(tenant, resources)
        yield stage
    await databases.give_back(name, TEMPLATE)

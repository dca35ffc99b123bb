"""Every request is one that Mailchimp's published description knows."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import orjson
import pytest

from mcsync.mailchimp import BatchOperation, MailchimpClient, WebhookEvents, WebhookSources
from tests.mailchimp.test_client import HASH, Mailchimp, ok

SPEC = Path(__file__).parents[3] / "shared" / "spec" / "mailchimp-marketing-3.0.85.openapi.json"
pytestmark = pytest.mark.skipif(
    not SPEC.exists(),
    reason="Mailchimp's published OpenAPI description is not beside this checkout",
)

# Without merge fields: the description, converted from an older form, takes their values for
# objects, while every guide and recording shows plain texts.
MEMBER = {"email_address": "a@x.org", "status_if_new": "subscribed"}
ROW = {"email_address": "a@x.org", "status": "subscribed"}
TAGS = {"tags": [{"name": "vip", "status": "active"}], "is_syncing": True}
DEFINITION = {
    "name": "Probe",
    "permission_reminder": "Made-up addresses only.",
    "email_type_option": False,
    "double_optin": False,
    "contact": {
        "company": "Acme",
        "address1": "1 Example Street",
        "city": "Atlanta",
        "state": "GA",
        "zip": "30308",
        "country": "US",
    },
    "campaign_defaults": {
        "from_name": "Acme",
        "from_email": "a@x.org",
        "subject": "Not sent",
        "language": "en",
    },
}
NOW = datetime(2026, 1, 1, tzinfo=UTC)

CALLS: dict[str, Callable[[MailchimpClient], Awaitable[object]]] = {
    "ping": lambda c: c.ping(),
    "account": lambda c: c.account(),
    "audiences": lambda c: c.audiences(),
    "audience": lambda c: c.audience("l1"),
    "create_audience": lambda c: c.create_audience(DEFINITION),
    "delete_audience": lambda c: c.delete_audience("l1"),
    "observe": lambda c: c.observe("POST", f"/lists/l1/members/{HASH}/tags", body=TAGS),
    "members": lambda c: c.members_page("l1", since_last_changed=NOW, status="subscribed"),
    "count": lambda c: c.count_members("l1", status="pending"),
    "member": lambda c: c.member("l1", HASH),
    "update": lambda c: c.update_member("l1", HASH, {"status": "unsubscribed"}),
    "add": lambda c: c.add_member("l1", ROW),
    "put": lambda c: c.put_member("l1", HASH, MEMBER, skip_merge_validation=True),
    "archive": lambda c: c.archive_member("l1", HASH),
    "erase": lambda c: c.delete_permanent("l1", HASH),
    "permissions": lambda c: c.marketing_permissions("l1"),
    "webhooks": lambda c: c.webhooks("l1"),
    "create_webhook": lambda c: c.create_webhook(
        "l1", url="https://x.org/h", events=WebhookEvents(), sources=WebhookSources(user=True)
    ),
    "update_webhook": lambda c: c.update_webhook("l1", "w1", url="https://x.org/h"),
    "delete_webhook": lambda c: c.delete_webhook("l1", "w1"),
    "bulk": lambda c: c.batch_subscribe("l1", [ROW], update_existing=True, sync_tags=True),
    "create_tag": lambda c: c.create_tag("l1", "vip"),
    "rename_tag": lambda c: c.rename_tag("l1", 5, "vip"),
    "tag": lambda c: c.tag("l1", 5),
    "search_tags": lambda c: c.search_tags("l1", "vip"),
    "tag_members": lambda c: c.tag_members_page("l1", 5),
    "change_tag": lambda c: c.change_tag_members("l1", 5, add=["a@x.org"], remove=["b@x.org"]),
    "merge_fields": lambda c: c.merge_fields("l1"),
    "create_merge_field": lambda c: c.create_merge_field(
        "l1", tag="PLAN", name="Plan", type="dropdown", options={"choices": ["a", "b"]}
    ),
    "submit_batch": lambda c: c.submit_batch(
        [BatchOperation("PATCH", f"/lists/l1/members/{HASH}", "1", "{}")]
    ),
    "batch_status": lambda c: c.batch_status("b1"),
}
# Enough of every answer for every call to read it.
ANSWER = {"id": 1, "account_id": "a", "merge_id": 1, "tag": "T"}
TEXT_IDS = {
    *("audience", "create_audience", "member", "update", "put", "submit_batch", "batch_status"),
    *("create_webhook", "update_webhook"),
}


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    document: dict[str, Any] = orjson.loads(SPEC.read_bytes())
    return document


def operation(spec: dict[str, Any], request: httpx.Request) -> dict[str, Any]:
    parts = request.url.path.removeprefix("/3.0").split("/")
    found = []
    for template, methods in spec["paths"].items():
        names = template.split("/")
        fits = len(names) == len(parts) and all(
            name.startswith("{") or name == part for name, part in zip(names, parts, strict=True)
        )
        if fits and request.method.lower() in methods:
            found.append((template.count("{"), methods[request.method.lower()]))
    assert found, f"{request.method} {request.url.path} is not described"
    described: dict[str, Any] = min(found, key=lambda pair: pair[0])[1]
    return described


@pytest.mark.parametrize("name", CALLS)
async def test_the_description_knows_the_request(name: str, spec: dict[str, Any]) -> None:
    answer = dict(ANSWER)
    if name in TEXT_IDS:
        answer["id"] = "x"
    mc = Mailchimp(ok(answer))
    await CALLS[name](mc.client)
    described = operation(spec, mc.last)
    known = {p["name"] for p in described.get("parameters", ()) if p["in"] == "query"}
    assert set(mc.last.url.params) <= known
    body = described.get("requestBody")
    if body is None:
        assert not mc.last.content
    else:
        schema = body["content"]["application/json"]["schema"]
        jsonschema.Draft4Validator({**schema, "components": spec["components"]}).validate(
            orjson.loads(mc.last.content)
        )

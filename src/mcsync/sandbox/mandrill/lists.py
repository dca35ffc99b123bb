"""What an account has beside mails: itself, metadata fields, rejects, templates (MC 17.1, 17.3)."""

from __future__ import annotations

import re

from . import failures, merge, model
from .call import MailCall
from .model import Json, Template
from .sending import contents, slug_of

_PARTS = ("code", "subject", "from_email", "from_name", "text")
_REJECTS_MOST = 1000
_DAY = 86_400
_FIELD = re.compile(r"[0-9A-Za-z][0-9A-Za-z_]*\Z")


def ping(_: MailCall) -> str:
    return "PONG!"


def ping2(_: MailCall) -> Json:
    return {"PING": "PONG!"}


def info(call: MailCall) -> Json:
    account = call.account
    periods = {
        "today": 1, "last_7_days": 7, "last_30_days": 30, "last_60_days": 60, "last_90_days": 90,
        "all_time": 100_000,
    }  # fmt: skip
    return {
        "username": account.username,
        "created_at": model.stamp(account.created),
        "public_id": account.id[:12],
        "reputation": 75,
        "hourly_quota": 250,
        "backlog": len(account.waiting),
        "stats": {name: _stats(call, call.now - days * _DAY) for name, days in periods.items()},
    }


def _stats(call: MailCall, since: int) -> Json:
    mails = [mail for mail in call.account.mails.values() if mail.ts >= since]
    states = [mail.state for mail in mails]
    return {
        "sent": sum(state in model.LEFT for state in states),
        "hard_bounces": states.count(model.BOUNCED),
        "soft_bounces": states.count(model.SOFT_BOUNCED),
        "rejects": states.count(model.REJECTED),
        "complaints": states.count(model.SPAM),
        "unsubs": states.count(model.UNSUB),
        "opens": sum(len(mail.opens) for mail in mails),
        "unique_opens": sum(bool(mail.opens) for mail in mails),
        "clicks": sum(len(mail.clicks) for mail in mails),
        "unique_clicks": sum(bool(mail.clicks) for mail in mails),
    }


# Metadata fields


def list_fields(call: MailCall) -> list[Json]:
    return [_field(call, name) for name in call.account.fields]


def add_field(call: MailCall) -> Json:
    name = call.required("name", str)
    if not _FIELD.match(name) or name in call.account.fields:
        raise failures.validation("name", "The field exists already or has no valid name")
    call.account.fields[name] = call.now
    return _field(call, name)


def _field(call: MailCall, name: str) -> Json:
    state = "active" if call.account.indexed(name) else "index"
    return {"name": name, "state": state, "view_template": ""}


# Rejects


def list_rejects(call: MailCall) -> list[Json]:
    email = call.text("email").lower()
    found = [each.view() for key, each in call.account.rejects.items() if key.startswith(email)]
    return found[:_REJECTS_MOST]


def add_reject(call: MailCall) -> Json:
    email = call.required("email", str).strip()
    if "@" not in email:
        raise failures.validation("email", "An email address must contain a single @")
    call.account.reject(email, "custom", call.text("comment"))
    return {"email": email, "added": True}


def delete_reject(call: MailCall) -> Json:
    email = call.required("email", str).strip()
    if not call.account.unreject(email):
        raise failures.invalid_reject(email)
    return {"email": email, "deleted": True, "subaccount": None}


# Templates


def list_templates(call: MailCall) -> list[Json]:
    label = call.text("label")
    found = call.account.templates.values()
    return [each.view() for each in found if not label or label in each.labels]


def show_template(call: MailCall) -> Json:
    return _template(call, "name").view()


def add_template(call: MailCall) -> Json:
    name = call.required("name", str)
    slug = slug_of(name)
    if not slug:
        raise failures.validation("name", "Please enter a value")
    if slug in call.account.templates:
        raise failures.invalid_template(name)
    draft = {part: call.text(part) for part in _PARTS}
    made = Template(slug, name, call.now, draft, call.texts("labels"))
    call.account.templates[slug] = made
    if call.optional("publish", bool) is not False:
        _publish(made, call.now)
    return made.view()


def update_template(call: MailCall) -> Json:
    found = _template(call, "name")
    found.draft |= {part: call.text(part) for part in _PARTS if call.body.get(part) is not None}
    found.updated = call.now
    if call.body.get("labels") is not None:
        found.labels = call.texts("labels")
    if call.optional("publish", bool) is not False:
        _publish(found, call.now)
    return found.view()


def publish_template(call: MailCall) -> Json:
    found = _template(call, "name")
    _publish(found, call.now)
    return found.view()


def delete_template(call: MailCall) -> Json:
    found = _template(call, "name")
    del call.account.templates[found.slug]
    return found.view()


def render_template(call: MailCall) -> Json:
    """Mailchimp's language only; the published code if there is any."""
    found = _template(call, "template_name")
    code = (found.published or found.draft)["code"]
    given = call.optional("merge_vars", list) or []
    values = {str(each.get("name")): each.get("content") for each in given}
    filled = merge.fill_regions(code, contents(call))
    blank = call.rules.blank_unknown_tags
    text = merge.merged(filled, values, language="mailchimp", escape=True, blank=blank)
    return {"html": text}


def _publish(template: Template, now: int) -> None:
    template.published, template.published_at = dict(template.draft), now


def _template(call: MailCall, parameter: str) -> Template:
    name = call.required(parameter, str)
    found = call.account.templates.get(slug_of(name))
    if found is None:
        raise failures.unknown_template(name)
    return found

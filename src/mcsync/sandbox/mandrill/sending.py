"""messages/send and messages/send-template (MC 17.2). `bcc_address` makes no mail of its own here."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import orjson

from . import failures, merge, model
from .call import MailCall
from .model import Json, Mail

_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+\Z")
_YEAR = 366 * 86_400
_TAG_MOST = 50


@dataclass(slots=True)
class _Draft:
    """A message with its defaults, before it is made out to anybody."""

    given: Json
    html: str
    text: str
    subject: str
    from_email: str
    from_name: str
    template: str | None = None
    global_vars: Json = field(default_factory=dict)
    vars: dict[str, Json] = field(default_factory=dict)

    def merge(self, text: str, mail_to: str, call: MailCall, *, escape: bool) -> str:
        values = self.global_vars | self.vars.get(mail_to.lower(), {})
        values = {"EMAIL": mail_to, "email": mail_to, "SUBJECT": self.subject} | values
        if not (self.given.get("merge") or self.global_vars or self.vars or self.template):
            return text
        return merge.merged(
            text,
            values,
            language=self.given.get("merge_language") or "mailchimp",
            escape=escape,
            blank=call.rules.blank_unknown_tags,
        )


def send(call: MailCall) -> list[Json]:
    given = _checked(call)
    draft = _Draft(
        given,
        html=str(given.get("html") or ""),
        text=str(given.get("text") or ""),
        subject=str(given.get("subject") or ""),
        from_email=str(given.get("from_email") or ""),
        from_name=str(given.get("from_name") or ""),
    )
    return _hand_in(call, draft)


def send_template(call: MailCall) -> list[Json]:
    """What the message says itself wins over the template."""
    template = call.account.templates.get(slug_of(call.required("template_name", str)))
    if template is None:
        raise failures.unknown_template(call.body["template_name"])
    if template.published is None:
        raise failures.validation("template_name", "The template was never published")
    content = contents(call)
    given, published = _checked(call), template.published
    code = merge.fill_regions(published["code"], content)
    draft = _Draft(
        given,
        html=str(given.get("html") or code),
        text=str(given.get("text") or published["text"]),
        subject=str(given.get("subject") or published["subject"]),
        from_email=str(given.get("from_email") or published["from_email"]),
        from_name=str(given.get("from_name") or published["from_name"]),
        template=template.slug,
    )
    return _hand_in(call, draft)


def slug_of(name: str) -> str:
    """The slug of a template's name."""
    return re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-")


def contents(call: MailCall) -> dict[str, str]:
    """`template_content` by region."""
    found = call.required("template_content", list)
    if not all(isinstance(each, dict) for each in found):
        raise failures.validation("template_content", "Please enter a list of structs")
    return {str(each.get("name")): str(each.get("content") or "") for each in found}


# Checks


def _checked(call: MailCall) -> Json:
    given = call.required("message", dict)
    to = given.get("to")
    if not isinstance(to, list) or not to:
        raise failures.validation("message", "to: Please enter an array")
    for each in to:
        if not isinstance(each, dict) or not isinstance(each.get("email"), str):
            raise failures.validation("message", "to: each needs an email")
        if each.get("type") not in (None, "to", "cc", "bcc"):
            raise failures.validation("message", "to: type must be to, cc or bcc")
    if (sender := given.get("from_email")) and not _ADDRESS.match(str(sender)):
        raise failures.validation("message", "from_email: An email address must contain a single @")
    for tag in given.get("tags") or ():
        if not isinstance(tag, str) or len(tag) > _TAG_MOST or tag.startswith("_"):
            raise failures.validation("message", "tags: at most 50 characters, no underscore first")
    if given.get("subaccount"):
        raise failures.unknown_subaccount(str(given["subaccount"]))
    if given.get("merge_language") not in (None, "mailchimp", "handlebars"):
        raise failures.validation("message", "merge_language: mailchimp or handlebars")
    _check_size(call, given)
    return given


def _check_size(call: MailCall, given: Json) -> None:
    files = [*(given.get("attachments") or ()), *(given.get("images") or ())]
    size = sum(len(str(each.get("content") or "")) for each in files if isinstance(each, dict))
    size += sum(len(str(given.get(name) or "").encode()) for name in ("html", "text"))
    if size > call.rules.max_message_bytes:
        raise failures.validation("message", "The message exceeds the size limit")
    common = given.get("metadata") or {}
    for values in ({}, *_by_recipient(given, "recipient_metadata", "values").values()):
        if len(orjson.dumps(common | values)) > call.rules.max_metadata_bytes:
            raise failures.validation("message", "metadata: too long")


def _by_recipient(given: Json, name: str, part: str) -> dict[str, Any]:
    found = given.get(name) or []
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise failures.validation("message", f"{name}: Please enter a list of structs")
    return {str(each.get("rcpt", "")).lower(): each.get(part) or {} for each in found}


def _vars(found: Any) -> Json:
    return {str(each["name"]): each.get("content") for each in found or () if each.get("name")}


# Making out


def _hand_in(call: MailCall, draft: _Draft) -> list[Json]:
    """One mail for each recipient; the outcomes in their order."""
    given = draft.given
    due = _due(call)
    draft.global_vars = _vars(given.get("global_merge_vars"))
    draft.vars = {
        rcpt: _vars(found) for rcpt, found in _by_recipient(given, "merge_vars", "vars").items()
    }
    personal = _by_recipient(given, "recipient_metadata", "values")
    hand_in = call.account.office.fresh_id("hand-in")
    mails = []
    for each in given["to"]:
        email = each["email"].strip()
        mail = Mail(
            id=call.account.office.fresh_id(hand_in),
            hand_in=hand_in,
            ts=call.now,
            email=email,
            name=str(each.get("name") or ""),
            kind=each.get("type") or "to",
            from_email=draft.from_email,
            from_name=draft.from_name,
            subject=draft.merge(draft.subject, email, call, escape=False),
            html=draft.merge(draft.html, email, call, escape=True),
            text=draft.merge(draft.text, email, call, escape=False),
            template=draft.template,
            tags=list(given.get("tags") or ()),
            metadata=(given.get("metadata") or {}) | personal.get(email.lower(), {}),
            headers=given.get("headers") or {},
            attachments=[dict(file) for file in given.get("attachments") or ()],
            due=due,
        )
        _decide(call, given, mail)
        mails.append(mail)
    # The answer tells the state at hand-in; what is queued may have left when somebody looks.
    outcomes = [mail.outcome() for mail in mails]
    for mail in mails:
        call.account.take(mail)
    return outcomes


def _due(call: MailCall) -> int:
    """When it is to be sent; 0 means now."""
    text = call.text("send_at")
    if not text:
        return 0
    due = model.parse_stamp(text)
    if due is None:
        raise failures.validation("send_at", "Please enter a valid date/time")
    if due > call.now + _YEAR:
        raise failures.validation("send_at", "Cannot be more than a year in the future")
    if not call.rules.paid:
        raise failures.payment_required()
    return due if due > call.now else 0


def _decide(call: MailCall, given: Json, mail: Mail) -> None:
    """The outcome for one recipient."""
    domain = mail.from_email.rpartition("@")[2].lower()
    pattern = call.rules.unsigned_pattern
    if not _ADDRESS.match(mail.email):
        mail.state = model.INVALID
    elif not mail.from_email:
        mail.state, mail.reject_reason = model.REJECTED, "invalid-sender"
    elif pattern and re.search(pattern, domain):
        mail.state, mail.reject_reason = model.REJECTED, "unsigned"
    elif reject := call.account.rejects.get(mail.email.lower()):
        mail.state, mail.reject_reason = model.REJECTED, reject.reason
    elif mail.due:
        mail.state = model.SCHEDULED
    elif mail.attachments:
        mail.state, mail.queued_reason = model.QUEUED, "attachments"
    elif len(given["to"]) > call.rules.most_at_once:
        mail.state, mail.queued_reason = model.QUEUED, "multiple-recipients"
    elif call.optional("async", bool):
        mail.state = model.QUEUED
    else:
        mail.state = model.SENT

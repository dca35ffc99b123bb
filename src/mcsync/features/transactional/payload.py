"""What is kept of a message until it was handed over, and what Mailchimp is then handed.

The content is sealed as one, what belongs to a single recipient apart from it, with that recipient: so
an erasure only has to empty one row, and the person is in nothing that is still to be sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict

from mcsync.features.transactional.content import ID_NAME, FileInput, SendInput, SendTemplateInput
from mcsync.mailchimp.transactional import (
    Attachment,
    MergeVar,
    Message,
    Recipient,
    RecipientMergeVars,
    TemplateContent,
)

_PEOPLE = ("to", "merge_vars")


@dataclass(frozen=True, slots=True)
class Person:
    """A recipient. ``own`` is what belongs to it alone, as JSON: its name and merge values."""

    no: int
    email: str
    type: str
    own: str | None


class Payload(BaseModel):
    """The content of a message, without anybody it goes to."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    message: dict[str, Any]
    template: str | None = None
    content: tuple[TemplateContent, ...] = ()

    def pack(self) -> str:
        """As it is sealed."""
        return orjson.dumps(self.model_dump(mode="json")).decode()

    @classmethod
    def unpack(cls, packed: str) -> Payload:
        """What :meth:`pack` gave."""
        return cls.model_validate_json(packed)

    def to(self, people: Sequence[Person]) -> Message:
        """What Mailchimp is handed; at least one person."""
        owns = [(person, orjson.loads(person.own) if person.own else {}) for person in people]
        return Message.model_validate(
            {
                **self.message,
                "to": [
                    {"email": person.email, "type": person.type, "name": own.get("name")}
                    for person, own in owns
                ],
                "merge_vars": [
                    {"rcpt": person.email, "vars": own["vars"]}
                    for person, own in owns
                    if own.get("vars")
                ],
            }
        )


def payload_of(given: SendInput | SendTemplateInput, message: Message) -> Payload:
    """The content of a request."""
    kept = {name: value for name, value in message.as_json().items() if name not in _PEOPLE}
    if isinstance(given, SendInput):
        return Payload(message=kept)
    content = tuple(
        TemplateContent(name=name, content=part) for name, part in given.template_content.items()
    )
    return Payload(message=kept, template=given.template, content=content)


def people_of(message: Message) -> list[Person]:
    """The recipients of a message, numbered."""
    own_vars = {
        each.rcpt: [v.model_dump(mode="json") for v in each.vars] for each in message.merge_vars
    }
    return [
        Person(number, each.email, each.type, _own(each.name, own_vars.get(each.email)))
        for number, each in enumerate(message.to, 1)
    ]


def _own(name: str | None, own_vars: list[dict[str, Any]] | None) -> str | None:
    own = {"name": name, "vars": own_vars}
    found = {key: value for key, value in own.items() if value}
    return orjson.dumps(found).decode() if found else None


def _vars(given: dict[str, Any]) -> tuple[MergeVar, ...]:
    return tuple(MergeVar(name=name, content=content) for name, content in given.items())


def _files(given: list[FileInput]) -> tuple[Attachment, ...]:
    return tuple(Attachment(type=f.type, name=f.name, content=f.content) for f in given)


def message_of(given: SendInput | SendTemplateInput, message_id: str) -> Message:
    """A request in Mailchimp's words; carries our id, by which it is found again."""
    everybody = given.everybody()
    own = [each for each in everybody if each.merge_vars]
    preserve = given.preserve_recipients
    return Message(
        html=given.html,
        text=given.text,
        subject=given.subject,
        from_email=given.from_email,
        from_name=given.from_name,
        to=tuple(
            Recipient(email=each.email, name=each.name, type=kind)
            for each, kind in zip(everybody, given.kinds(), strict=True)
        ),
        headers={"Reply-To": given.reply_to} if given.reply_to else {},
        important=given.important,
        track_opens=given.track_opens,
        track_clicks=given.track_clicks,
        auto_text=given.auto_text,
        inline_css=given.inline_css,
        preserve_recipients=True if preserve is None and given.cc else preserve,
        merge=True if given.merge_vars or own else None,
        merge_language=given.merge_language,
        global_merge_vars=_vars(given.merge_vars),
        merge_vars=tuple(
            RecipientMergeVars(rcpt=each.email, vars=_vars(each.merge_vars)) for each in own
        ),
        tags=tuple(given.tags),
        subaccount=given.subaccount,
        metadata={**given.metadata, ID_NAME: message_id},
        attachments=_files(given.attachments),
        images=_files(given.images),
    )

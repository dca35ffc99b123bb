"""``mcsync transactional``."""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args
from uuid import UUID

import typer
from rich.console import Console

from mcsync.cli.administration import acting
from mcsync.cli.console import AsJson, Exit, OrgOption, Output, Yes, confirm, run
from mcsync.cli.paging import dumped
from mcsync.cli.tables import make_table
from mcsync.core.auth import Actor
from mcsync.core.errors import BadRequestError, FieldProblem
from mcsync.core.web.paging import MAX_LIMIT, PageParams

if TYPE_CHECKING:
    from mcsync.core.resources import Resources
    from mcsync.features.transactional.content import SendInput, SendTemplateInput
    from mcsync.features.transactional.schemas import MessageView

transactional = typer.Typer(
    no_args_is_help=True, help="Transactional mail: confirmations and the like, one by one."
)

MessageArgument = Annotated[UUID, typer.Argument(help="The message's id.")]
Addresses = Annotated[list[str] | None, typer.Option(help="May be given several times.")]
Pairs = Annotated[list[str] | None, typer.Option(help="NAME=VALUE; may be given several times.")]
TextFile = Annotated[Path | None, typer.Option(exists=True, dir_okay=False)]


@transactional.command("send")
def send(
    to: Annotated[list[str], typer.Option(help="Whom it goes to; may be given several times.")],
    cc: Addresses = None,
    bcc: Addresses = None,
    sender: Annotated[str | None, typer.Option("--from", help="Address it comes from.")] = None,
    from_name: Annotated[str | None, typer.Option(help="Name it comes from.")] = None,
    subject: Annotated[str | None, typer.Option(help="Its subject.")] = None,
    html_file: TextFile = None,
    text: Annotated[str | None, typer.Option(help="Its text.")] = None,
    template: Annotated[str | None, typer.Option(help="Slug of a template.")] = None,
    region: Pairs = None,
    var: Pairs = None,
    tag: Annotated[list[str] | None, typer.Option(help="May be given several times.")] = None,
    attach: Annotated[
        list[Path] | None, typer.Option(exists=True, dir_okay=False, help="A file to attach.")
    ] = None,
    at: Annotated[datetime | None, typer.Option(help="Not before this time (local).")] = None,
    key: Annotated[str | None, typer.Option(help="Your own id: twice the same is one.")] = None,
    organisation: OrgOption = None,
    as_json: AsJson = False,
) -> None:
    """Queue a message, from a template or with its own content; a worker hands it to Mailchimp."""
    from mcsync.features.transactional import service

    out = Output(as_json)
    given: dict[str, Any] = {
        "to": _people(to), "cc": _people(cc), "bcc": _people(bcc), "fromEmail": sender,
        "fromName": from_name, "subject": subject, "text": text,
        "html": _html(out, html_file) if html_file else None,
        "mergeVars": _pairs(out, var), "tags": tag or [], "idempotencyKey": key,
        "attachments": [_file(path) for path in attach or ()],
        "sendAt": _moment(out, at),
    }  # fmt: skip
    if template is not None:
        given |= {"template": template, "templateContent": _pairs(out, region)}
    body = {name: value for name, value in given.items() if value is not None}

    async def work(resources: Resources) -> MessageView:
        actor = await acting(resources, organisation)
        return await service.send(resources, actor, _checked(body))

    shown = run(out, work).model_dump(mode="json", by_alias=True)
    out.result(shown, lambda console: _show(console, shown))


def _moment(out: Output, at: datetime | None) -> str | None:
    try:
        return at.astimezone().isoformat() if at else None
    except (OverflowError, ValueError):
        out.fail(Exit.USAGE, "--at is a time that no calendar here has.", kind="usage")


def _people(given: list[str] | None) -> list[dict[str, str]]:
    return [{"email": email} for email in given or ()]


def _pairs(out: Output, given: list[str] | None) -> dict[str, str]:
    found = {}
    for pair in given or ():
        name, equals, value = pair.partition("=")
        if not equals:
            out.fail(Exit.USAGE, "Give variables and regions as NAME=VALUE.", kind="usage")
        found[name] = value
    return found


def _html(out: Output, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        out.fail(Exit.USAGE, f"{path} cannot be read: {type(error).__name__}.", kind="no_file")


def _file(path: Path) -> dict[str, str]:
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    content = base64.b64encode(path.read_bytes()).decode()
    return {"name": path.name, "type": kind, "content": content}


def _checked(body: dict[str, Any]) -> SendInput | SendTemplateInput:
    from pydantic import ValidationError

    from mcsync.features.transactional.content import SendInput, SendTemplateInput

    model = SendTemplateInput if "template" in body else SendInput
    try:
        return model.model_validate(body)
    except ValidationError as error:
        problems = [
            FieldProblem("/" + "/".join(map(str, one["loc"])), one["type"], one["msg"])
            for one in error.errors(include_input=False, include_url=False)
        ]
        message = "The message is not right."
        raise BadRequestError(message, code="invalid_request", errors=problems) from None


@transactional.command("list")
def list_(
    status: Annotated[str | None, typer.Option(help="Only of this status.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only with this tag.")] = None,
    email: Annotated[str | None, typer.Option(help="Only to this address.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_LIMIT, help="How many at most.")] = 20,
    organisation: OrgOption = None,
    as_json: AsJson = False,
) -> None:
    """List messages, newest first."""
    from mcsync.features.transactional import service
    from mcsync.features.transactional.schemas import MessageStatus

    out = Output(as_json)

    async def work(resources: Resources) -> list[dict[str, Any]]:
        if status is not None and status not in get_args(MessageStatus):
            message = f"The status must be one of {', '.join(get_args(MessageStatus))}."
            raise BadRequestError(message)
        actor = await acting(resources, organisation)
        wanted: Any = status
        page = await service.list_messages(
            resources, actor, PageParams(limit, None), status=wanted, tag=tag, email=email
        )
        return [dumped(item) for item in page.items]

    found = run(out, work)

    def human(console: Console) -> None:
        rows = [
            [m["id"], m["status"], _outcomes(m), m["template"] or "-", m["createdAt"]]
            for m in found
        ]
        if not rows:
            console.print("None yet: mcsync transactional send --help")
            return
        console.print(make_table(("id", "status", "recipients", "template", "created"), rows))

    out.result(found, human)


@transactional.command("show")
def show(
    message_id: MessageArgument, organisation: OrgOption = None, as_json: AsJson = False
) -> None:
    """Show a message and what became of it at every recipient."""
    from mcsync.features.transactional import service

    out = Output(as_json)

    async def work(resources: Resources) -> dict[str, Any]:
        actor = await acting(resources, organisation)
        found = await service.get(resources, actor, message_id)
        return dumped(found)

    shown = run(out, work)
    out.result(shown, lambda console: _show(console, shown))


@transactional.command("cancel")
def cancel(
    message_id: MessageArgument,
    organisation: OrgOption = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Take a message back that was not handed to Mailchimp yet."""
    from mcsync.features.transactional import service

    _act("Cancel", service.cancel, message_id, organisation, yes, as_json)


@transactional.command("resend")
def resend(
    message_id: MessageArgument,
    organisation: OrgOption = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Send an unconfirmed message again, unless it is found at Mailchimp after all."""
    from mcsync.features.transactional import service

    _act("Send again", service.resend, message_id, organisation, yes, as_json)


def _act(
    question: str,
    act: Callable[[Resources, Actor, UUID], Awaitable[MessageView]],
    message_id: UUID,
    organisation: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    out = Output(as_json)
    confirm(out, f"{question} message {message_id}?", yes=yes)

    async def work(resources: Resources) -> MessageView:
        return await act(resources, await acting(resources, organisation), message_id)

    shown = run(out, work).model_dump(mode="json", by_alias=True)
    out.result(shown, lambda console: _show(console, shown))


@transactional.command("templates")
def templates(
    label: Annotated[str | None, typer.Option(help="Only with this label.")] = None,
    organisation: OrgOption = None,
    as_json: AsJson = False,
) -> None:
    """List the templates of the connected Transactional account."""
    from mcsync.features.transactional import service

    out = Output(as_json)

    async def work(resources: Resources) -> list[dict[str, Any]]:
        actor = await acting(resources, organisation)
        found = await service.list_templates(resources, actor, label=label)
        return [dumped(item) for item in found.items]

    columns = {"template": "slug", "name": "name", "subject": "subject", "publishedAt": "published"}
    out.table(run(out, work), columns, empty="None: make one at Mailchimp Transactional")


def _outcomes(shown: Mapping[str, Any]) -> str:
    return ", ".join(f"{one['count']} {one['status']}" for one in shown["outcomes"])


def _show(console: Console, shown: Mapping[str, Any]) -> None:
    console.print(f"Message {shown['id']}: [bold]{shown['status']}[/]", markup=True)
    console.print(f"  recipients  {_outcomes(shown)}")
    if shown["sendAt"]:
        console.print(f"  not before  {shown['sendAt']}")
    if shown["errorCode"]:
        console.print(f"  because     {shown['errorCode']}: {shown['errorDetail']}", markup=False)
    people = shown.get("people", [])
    if people:
        rows = [
            [p["email"] or "(erased)", p["type"], p["status"], p["reason"] or "-", str(p["opens"]),
             str(p["clicks"])]
            for p in people
        ]  # fmt: skip
        console.print(make_table(("email", "type", "status", "reason", "opens", "clicks"), rows))

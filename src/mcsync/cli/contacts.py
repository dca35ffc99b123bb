"""``mcsync contacts``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from mcsync.cli.administration import acting
from mcsync.cli.console import AsJson, Exit, OrgOption, Output, run
from mcsync.cli.paging import dumped, every
from mcsync.cli.upload import (
    CharsetOption,
    ColumnsOption,
    FileArgument,
    MapOption,
    SetOption,
    TimeZoneOption,
    Upload,
    choice_of,
    show_rejections,
)

if TYPE_CHECKING:
    from mcsync.core.resources import Resources

contacts = typer.Typer(no_args_is_help=True, help="The organisation's employees and vendors.")


@contacts.command("import")
def import_(
    file: FileArgument,
    charset: CharsetOption = None,
    mapped: MapOption = None,
    constants: SetOption = None,
    columns: ColumnsOption = None,
    confirm_withdrawals: Annotated[
        bool, typer.Option(help="Go on although suspiciously many contacts would be withdrawn.")
    ] = False,
    time_zone: TimeZoneOption = None,
    organisation: OrgOption = None,
    as_json: AsJson = False,
) -> None:
    """Import a file of any size: right rows go in, all others are reported. Exits 6 if any was rejected."""
    from mcsync.features.contacts import service
    from mcsync.features.preferences.service import PreferencesConsentSink

    out = Output(as_json)
    given = Upload(out, file, charset)
    choice = choice_of(mapped, constants, columns)

    async def work(resources: Resources) -> dict[str, Any]:
        actor = await acting(resources, organisation)
        with given.body() as body:
            result = await service.import_file(
                resources, actor, body, given.kind, PreferencesConsentSink(resources, actor),
                confirm_withdrawals=confirm_withdrawals, choice=choice, time_zone=time_zone,
            )  # fmt: skip
        return dumped(result)

    result = run(out, work)
    out.result(result, lambda console: show_import(console, result))
    if result["rejected"]:
        raise typer.Exit(Exit.ATTENTION)


def show_import(console: Console, result: dict[str, Any], *, shown: int = 20) -> None:
    """The report of an import, for people."""
    console.print(
        f"{result['received']} rows: {result['created']} created, {result['updated']} updated, "
        f"{result['unchanged']} unchanged, {result['rejected']} rejected"
    )
    consent = result["consent"]
    if any(consent.values()):
        console.print(
            f"Consent: {consent['optedIn']} opted in, {consent['optedOut']} opted out, "
            f"{consent['unset']} unset, {consent['notNewer']} opt-ins not newer than a withdrawal"
        )
    show_rejections(console, result, shown=shown)


@contacts.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    department: Annotated[str | None, typer.Option(help="Only of this department.")] = None,
    location: Annotated[str | None, typer.Option(help="Only of this location.")] = None,
    search: Annotated[str | None, typer.Option(help="Part of a name, address or id.")] = None,
    include_left: Annotated[bool, typer.Option(help="Also contacts that left.")] = False,
    organisation: OrgOption = None,
    as_json: AsJson = False,
) -> None:
    """List contacts, by type and id."""
    from mcsync.features.contacts import service
    from mcsync.features.contacts.repository import ContactFilter

    out = Output(as_json)
    wanted = ContactFilter(None, department, location, None, search, include_left)

    async def work(resources: Resources) -> list[dict[str, Any]]:
        actor = await acting(resources, organisation)
        found = await every(
            lambda page: service.list_contacts(resources, actor, page, wanted), most=limit
        )
        return [dumped(contact) for contact in found]

    columns = {
        "entityType": "type", "entityId": "id", "email": "email", "firstName": "first name",
        "lastName": "last name", "department": "department", "location": "location",
    }  # fmt: skip
    out.table(run(out, work), columns, empty="None: mcsync contacts import FILE")


@contacts.command("explain")
def explain(
    email: Annotated[str | None, typer.Argument(help="The person's address.")] = None,
    entity_type: Annotated[
        str | None, typer.Option("--type", help="employee or vendor; with --id, instead of EMAIL.")
    ] = None,
    entity_id: Annotated[
        str | None, typer.Option("--id", help="The id in the organisation's own system.")
    ] = None,
    organisation: OrgOption = None,
    as_json: AsJson = False,
) -> None:
    """Tell why a person is in or out of each audience, and what the next sync would do."""
    from mcsync.features.sync import explain as explaining

    out = Output(as_json)

    async def work(resources: Resources) -> dict[str, Any]:
        actor = await acting(resources, organisation)
        answer = await explaining.explain(
            resources, actor, entity_type=entity_type, entity_id=entity_id, email=email
        )
        return dumped(answer)

    answer = run(out, work)
    out.result(answer, lambda console: show_explanation(console, answer))


def show_explanation(console: Console, answer: dict[str, Any]) -> None:
    """The explanation, for people."""
    heading = f"{answer['email'] or 'No usable address'}: {answer['summary']}"
    console.print(heading, style="bold", markup=False)
    for contact in answer["contacts"]:
        who = f"{contact['entityType']} {contact['entityId']}"
        console.print(f"  {who}: {', '.join(_consent_notes(contact))}", markup=False)
    for audience in answer["audiences"]:
        console.print()
        name = f"{audience['name']} ({audience['audienceId']})"
        console.print(name, style="bold", markup=False)
        console.print(f"  {audience['summary']}", markup=False)
        for line in _segment_lines(audience):
            console.print(f"  {line}", markup=False)


def _consent_notes(contact: dict[str, Any]) -> list[str]:
    said = {
        "given": contact["consentGivenAt"],
        "withdrawn": contact["consentWithdrawnAt"],
        "source": contact["source"],
        "left": contact["leftAt"],
    }
    notes = [contact["status"].replace("_", " ")]
    notes += [f"{word} {value}" for word, value in said.items() if value]
    return notes if contact["hasAddress"] else [*notes, "has another address now"]


def _segment_lines(audience: dict[str, Any]) -> list[str]:
    lines = []
    for segment in audience["segments"]:
        rule = f" [row {segment['rule']}]" if segment["rule"] else ""
        lines.append(f"- {segment['name']}: {segment['explanation']}{rule}")
    for push in audience["lastPushes"]:
        outcome = f", {push['outcomeCode']}: {push['outcome']}" if push["outcomeCode"] else ""
        when = push["doneAt"] or "not yet"
        lines.append(f"- {when}: {push['action']} ({push['reason']}) {push['state']}{outcome}")
    return lines

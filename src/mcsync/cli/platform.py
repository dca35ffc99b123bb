"""``mcsync org`` and ``mcsync token``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

import typer
from rich.console import Console

from mcsync.cli import administration
from mcsync.cli.console import AsJson, Exit, OrgOption, Output, Yes, confirm, run
from mcsync.core.auth import Role

if TYPE_CHECKING:
    from mcsync.core.db.platform import ServiceToken
    from mcsync.core.resources import Resources

org = typer.Typer(no_args_is_help=True, help="Organisations (tenants).")
_YEAR: Final = 366 * 24 * 60
"""Minutes."""

token = typer.Typer(no_args_is_help=True, help="Service tokens of an organisation.")


@org.command("create")
def org_create(
    name: Annotated[str, typer.Argument(help="Unique, whatever the case.")], as_json: AsJson = False
) -> None:
    """Make an organisation. Make its first token with `mcsync token create`."""
    out = Output(as_json)

    async def work(resources: Resources) -> dict[str, Any]:
        made = await administration.new_organisation(resources, name)
        return {"id": str(made.id), "name": made.name}

    made = run(out, work)
    out.result(made, lambda c: c.print(f"Made organisation {made['name']!r}: {made['id']}"))


@org.command("rename")
def org_rename(
    wanted: Annotated[str, typer.Argument(metavar="ORG", help="Its name or id.")],
    name: Annotated[str, typer.Argument(help="The new name.")],
    as_json: AsJson = False,
) -> None:
    """Give an organisation another name. Its id, tokens and data stay as they are."""
    out = Output(as_json)

    async def work(resources: Resources) -> dict[str, Any]:
        renamed = await administration.rename_organisation(resources, wanted, name)
        return {"id": str(renamed.id), "name": renamed.name}

    renamed = run(out, work)
    out.result(
        renamed, lambda c: c.print(f"It is {renamed['name']!r} from now on: {renamed['id']}")
    )


@org.command("list")
def org_list(as_json: AsJson = False) -> None:
    """List all organisations."""
    out = Output(as_json)

    async def work(resources: Resources) -> list[dict[str, Any]]:
        return [
            {"id": str(o.id), "name": o.name, "createdAt": _time(o.created_at)}
            for o in await administration.organisations(resources)
        ]

    columns = {"id": "id", "name": "name", "createdAt": "created"}
    out.table(run(out, work), columns, empty="None yet: mcsync org create NAME")


@token.command("create")
def token_create(
    name: Annotated[str, typer.Argument(help="What it is for, as the audit will show it.")],
    role: Annotated[
        Role | None, typer.Option(help="What it may do; default: editor.", show_default=False)
    ] = None,
    publishable: Annotated[
        bool,
        typer.Option(
            "--publishable",
            help="For a public form: may only ask people to confirm. Needs --audience.",
        ),
    ] = False,
    audience: Annotated[
        list[str] | None,
        typer.Option(help="With --publishable: Mailchimp's id of an audience; may be repeated."),
    ] = None,
    days: Annotated[
        int | None, typer.Option(min=1, max=3650, help="Days until it expires; default: never.")
    ] = None,
    organisation: OrgOption = None,
    as_json: AsJson = False,
) -> None:
    """Make a token. It is shown this once and cannot be recovered."""
    out = Output(as_json)
    audience = list(dict.fromkeys(audience)) if audience else None  # named twice is once
    if publishable != bool(audience) or (publishable and role is not None):
        out.fail(
            Exit.USAGE, "A publishable token takes --audience and no --role; others take no --audience.",
            kind="usage",
        )  # fmt: skip

    async def work(resources: Resources) -> dict[str, Any]:
        chosen = await administration.choose_organisation(resources, organisation)
        expires = resources.clock() + timedelta(days=days) if days else None
        made = await administration.new_token(
            resources, chosen.id, name=name, expires_at=expires, audience_ids=audience,
            role=None if publishable else role or Role.EDITOR,
        )  # fmt: skip
        return {
            "id": str(made.id),
            "token": made.token,
            "role": made.role,
            "audiences": audience,
            "organisation": str(chosen.id),
            "expiresAt": _time(expires),
        }

    made = run(out, work)

    def human(console: Console) -> None:
        console.print(made["token"], soft_wrap=True, markup=False)
        out.note(f"Keep it now: it is not stored. Role {made['role']}, id {made['id']}.")

    out.result(made, human)


@token.command("list")
def token_list(organisation: OrgOption = None, as_json: AsJson = False) -> None:
    """List the organisation's tokens (never their secrets)."""
    out = Output(as_json)

    async def work(resources: Resources) -> list[dict[str, Any]]:
        chosen = await administration.choose_organisation(resources, organisation)
        now = resources.clock()
        return [_shown(row, now) for row in await administration.tokens(resources, chosen.id)]

    columns = {
        "id": "id", "name": "name", "role": "role", "ending": "ends with", "state": "state",
        "expiresAt": "expires", "lastUsedAt": "last used",
    }  # fmt: skip
    out.table(run(out, work), columns, empty="None yet: mcsync token create NAME")


@token.command("revoke")
def token_revoke(
    token_id: Annotated[UUID, typer.Argument(help="The token's id, from `mcsync token list`.")],
    in_minutes: Annotated[
        int,
        typer.Option(min=0, max=_YEAR, help="End it later, so that its successor can take over."),
    ] = 0,
    organisation: OrgOption = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """End a token. Processes that verified it lately believe it for some seconds more."""
    out = Output(as_json)
    confirm(out, f"End the token {token_id}?", yes=yes)

    async def work(resources: Resources) -> dict[str, Any]:
        chosen = await administration.choose_organisation(resources, organisation)
        at = resources.clock() + timedelta(minutes=in_minutes)
        await administration.end_token(resources, chosen.id, token_id, at=at)
        return {"id": str(token_id), "revokedAt": _time(at)}

    done = run(out, work)
    out.result(done, lambda c: c.print(f"The token ends at {done['revokedAt']}."))


def _shown(row: ServiceToken, now: datetime) -> dict[str, Any]:
    if row.revoked_at is not None and row.revoked_at <= now:
        state = "revoked"
    elif row.expires_at is not None and row.expires_at <= now:
        state = "expired"
    else:
        state = "ending" if row.revoked_at is not None else "live"
    return {
        "id": str(row.id),
        "name": row.name,
        "role": row.role,
        "audiences": row.audience_ids,
        "ending": row.last4,
        "state": state,
        "expiresAt": _time(row.expires_at),
        "revokedAt": _time(row.revoked_at),
        "lastUsedAt": _time(row.last_used_at),
        "createdAt": _time(row.created_at),
    }


def _time(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

"""What SQL a source may be given, as far as that can be told by reading it.

The database is the judge: sources are read in a read-only session with limits (:mod:`drivers`), best as
a role that can only select. What is refused here is refused early and with a sentence that helps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, Literal

from mcsync.core.errors import BadRequestError

Kind = Literal["postgresql", "mysql", "sqlite"]

_WRITES: Final = frozenset({"insert", "update", "delete", "merge", "into", "truncate"})
_REACHES_OUT: Final = frozenset({
    "dblink", "dblink_exec", "dblink_connect", "lo_import", "lo_export", "lo_unlink", "pg_sleep",
    "pg_sleep_for", "pg_sleep_until", "pg_terminate_backend", "pg_cancel_backend", "pg_read_file",
    "pg_read_binary_file", "pg_ls_dir", "pg_reload_conf", "pg_advisory_lock", "set_config", "load_file",
    "load_extension", "sleep", "benchmark", "get_lock", "query_to_xml", "nextval", "setval",
})  # fmt: skip
"""Functions that do more than compute: each called within a plain SELECT."""
_ACKNOWLEDGES: Final = frozenset({"update", "delete", "insert", "call", "select", "with"})

_TOKEN: Final = {
    "comment": r"--[^\n]*|/\*(?:(?!/\*)[\s\S])*?\*/",
    "string": r"[eE]'(?:[^'\\]|''|\\[\s\S])*'|'(?:[^']|'')*'",
    "quoted": r'"(?:[^"]|"")*"|`(?:[^`]|``)*`',
    "cast": r"::",
    "key": r":key\b",
    "word": r"[^\W\d]\w*",
    "other": r"[\s\S]",
}
_DOLLAR: Final = r"\$(?P<tag>\w*)\$[\s\S]*?\$(?P=tag)\$"


def _scanner(kind: Kind) -> re.Pattern[str]:
    parts = dict(_TOKEN)
    if kind == "postgresql":
        parts["string"] += "|" + _DOLLAR
    if kind == "mysql":  # backslashes escape, # begins a comment, "..." may be text
        parts["comment"] += r"|\#[^\n]*"
        parts["string"] = r"'(?:[^'\\]|''|\\[\s\S])*'"
        parts["quoted"] = r'"(?:[^"\\]|""|\\[\s\S])*"|`(?:[^`]|``)*`'
    return re.compile("|".join(f"(?P<{name}>{part})" for name, part in parts.items()))


_SCANNERS: Final = {kind: _scanner(kind) for kind in ("postgresql", "mysql", "sqlite")}


def _tokens(sql: str, kind: Kind) -> Iterator[tuple[str, str]]:
    for found in _SCANNERS[kind].finditer(sql):
        assert found.lastgroup is not None
        yield found.lastgroup, found.group()


def _refused(message: str) -> BadRequestError:
    return BadRequestError(message, code="invalid_source_query")


def _one_statement(sql: str, kind: Kind, what: str) -> tuple[str, list[str]]:
    """The statement without its closing semicolon, and its words; refuses what is not exactly one."""
    if "\0" in sql or not sql.strip():
        raise _refused(f"Give {what}: it is empty.")
    words: list[str] = []
    kept: list[str] = []
    ended = False
    for token, text in _tokens(sql, kind):
        if token == "comment":  # noqa: S105 - a kind of token
            if text.startswith(("/*!", "/*M!")):
                raise _refused("Leave out comments that the server executes (/*! ... */).")
            kept.append(text if text.startswith("/*+") else " ")  # hints for the optimiser stay
            continue
        if ended and text.strip():
            raise _refused(f"Give one statement as {what}, not several.")
        if token == "other" and text == ";":  # noqa: S105 - a kind of token
            ended = True
            continue
        if token == "other" and text in {"'", '"', "`"}:  # noqa: S105 - a kind of token
            raise _refused(f"A quote in {what} is never closed.")
        if token == "word":  # noqa: S105 - a kind of token
            words.append(text.lower())
        kept.append(text)
    return "".join(kept).strip(), words


def check_query(sql: str, kind: Kind) -> str:
    """The query as it will be sent. Raises BadRequestError (``invalid_source_query``)."""
    statement, words = _one_statement(sql, kind, "the query")
    if not words or words[0] not in {"select", "with"}:
        raise _refused("The query must be one SELECT (it may begin with WITH).")
    for word in words:
        if word in _WRITES:
            raise _refused(
                f"The query must only read, and {word.upper()} writes or locks."
                " A column of this name must be in quotes."
            )
        if word in _REACHES_OUT:
            raise _refused(f"The query must not call {word}.")
    return statement


def check_acknowledge(sql: str, kind: Kind) -> str:
    """The acknowledging statement as it will be sent. Raises BadRequestError."""
    statement, words = _one_statement(sql, kind, "the acknowledging statement")
    if not words or words[0] not in _ACKNOWLEDGES:
        raise _refused("Acknowledge with one statement, for example: delete from q where id = :key")
    if not any(token == "key" for token, _ in _tokens(statement, kind)):  # noqa: S105
        raise _refused("The acknowledging statement must name the row by :key.")
    return statement


def with_keys(statement: str, kind: Kind, place: Callable[[], str]) -> str:
    """The statement with ``place()`` for each ``:key``; strings stay as they are."""
    escape = kind == "mysql"  # its driver formats the text itself
    return "".join(
        place() if token == "key" else text.replace("%", "%%") if escape else text  # noqa: S105
        for token, text in _tokens(statement, kind)
    )


def since(query: str, kind: Kind, column: str, place: str) -> str:
    """The query with only the rows that changed since a value, and those that say nothing of it."""
    name = quoted(column, kind)
    inside = query.replace("%", "%%") if kind == "mysql" else query
    return (
        f"select * from (\n{inside}\n) as mcsync_source where {name} >= {place} or {name} is null"
    )


def newest_first(query: str, kind: Kind, key: str) -> str:
    """The query with the newest queue rows first, so that of two about one person the newer one counts."""
    return f"select * from (\n{query}\n) as mcsync_source order by {quoted(key, kind)} desc"


def quoted(column: str, kind: Kind) -> str:
    """A column's name as an identifier, whatever is in it.

    Not in double quotes for SQLite, which would take an unknown name in them for a text.
    """
    mark = '"' if kind == "postgresql" else "`"
    return mark + column.replace(mark, mark * 2).replace("\0", "") + mark

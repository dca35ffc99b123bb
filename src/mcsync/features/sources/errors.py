"""What can go wrong with a source, in words of our own.

A driver's error may carry the password, the row at hand, or both. It is never chained, shown or
logged: :class:`SourceError` says what happened, and repeats a driver's sentence only where that is
about the operator's own SQL.
"""

from __future__ import annotations

from mcsync.core.logging import redact

_LONGEST = 300


class SourceError(Exception):
    """A source cannot be read (or answered). ``passing``: it may go better in a while."""

    def __init__(self, code: str, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.passing = passing


def unreachable() -> SourceError:
    """Nobody answers, or the line broke."""
    return SourceError(
        "source_unreachable",
        "The database cannot be reached, or the connection broke. Check host, port and network.",
        passing=True,
    )


def unusable_url(why: str) -> SourceError:
    """The stored URL cannot be used (any more); ``why`` repeats no secret of it."""
    return SourceError(
        "source_url_unusable", f"The connection URL is not usable. {why} Then add the source again."
    )


def insecure(why: str) -> SourceError:
    """TLS failed; ``why`` is a sentence about certificates, which hold no secret."""
    return SourceError("source_tls_failed", why, passing=True)


def busy() -> SourceError:
    """The server takes no more connections, or is starting."""
    return SourceError(
        "source_busy", "The database takes no connections at the moment.", passing=True
    )


def refused_login() -> SourceError:
    """User or password are not right, or may not come from here."""
    return SourceError(
        "source_login_refused",
        "The database refused the login. Add the source again with the right user and password.",
    )


def too_slow(seconds: int) -> SourceError:
    """The statement limit was reached."""
    return SourceError(
        "source_timeout",
        f"A statement took longer than {seconds} seconds and was ended. Give the query an index,"
        " or the source a longer --timeout.",
        passing=True,
    )


def wrote() -> SourceError:
    """The query tried to write, in a session that only reads."""
    return SourceError(
        "source_write_refused",
        "The query tried to change something. Sources are read in a read-only session.",
    )


def damaged_file() -> SourceError:
    """What is there is no database, or not a whole one."""
    return SourceError(
        "source_file_damaged",
        "The file is not an SQLite database, or it is damaged. Check the path, or restore the file.",
    )


def refused_query(about: str, *, sentence: str | None = None) -> SourceError:
    """The server refused the statement; ``sentence`` is its own, about the SQL and not about rows."""
    said = redact(" ".join(sentence.split()))[:_LONGEST] if sentence else about
    return SourceError("source_query_refused", f"The database refused the statement: {said}")


def failed_on_a_row(about: str) -> SourceError:
    """The query itself failed while it computed a row; the server ends it then, and no row can be skipped."""
    return SourceError(
        "source_query_refused",
        f"The query failed on the data of a row ({about}), and the database ended it there. Let the query"
        " catch such values itself, for example with CASE.",
    )

"""The codes with which requests about sources are refused, and those that pulls end with."""

from __future__ import annotations

from mcsync.core.web.problems import register_problem

for _row in (
    ("source_not_found", 404, "No such source", "`mcsync sources list` and sources.list show all."),
    ("source_name_taken", 409, "A source of this name exists", "Choose another name."),
    ("pull_under_way", 409, "A pull of this source is under way",
     "Wait until it has ended, then ask again."),
    ("invalid_source_url", 400, "The connection URL is not usable",
     "KIND://user:password@host:port/database, or sqlite:////path/of/file.db"),
    ("invalid_source_query", 400, "The query is not usable", "Give one SELECT that only reads."),
    ("invalid_source_mapping", 400, "The mapping is not usable", "Read `detail`."),
    ("invalid_source", 400, "The source is not usable as described", "Read `detail`."),
):  # fmt: skip
    register_problem(*_row)

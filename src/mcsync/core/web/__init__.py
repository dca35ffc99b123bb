"""The HTTP ground: schemas, problems, paging, middleware, idempotency, docs and health."""

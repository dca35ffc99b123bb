"""The calls of the client, one module a noun."""

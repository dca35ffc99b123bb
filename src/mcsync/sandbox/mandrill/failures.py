"""Every refusal of the Transactional API (MC 17.5)."""

from __future__ import annotations

import orjson

from ..exchange import Answer


class Failure(Exception):
    """An answer of 4xx or 5xx. `name` is what callers branch on."""

    def __init__(self, status: int, code: int, name: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.name = name
        self.message = message

    def answer(self) -> Answer:
        body = {
            "status": "error",
            "code": self.code,
            "name": self.name,
            "message": self.message,
        }
        return Answer(self.status, orjson.dumps(body))


def invalid_key() -> Failure:
    return Failure(401, -1, "Invalid_Key", "Invalid API key")


def payment_required() -> Failure:
    return Failure(402, 10, "PaymentRequired", "The requested feature requires payment.")


def unknown_message(ident: str) -> Failure:
    return Failure(404, 11, "Unknown_Message", f'No message exists with the id "{ident}"')


def unknown_template(name: str) -> Failure:
    return Failure(404, 5, "Unknown_Template", f'No such template "{name}"')


def unknown_subaccount(ident: str) -> Failure:
    return Failure(404, 12, "Unknown_Subaccount", f'No subaccount exists with the id "{ident}"')


def unknown_webhook(ident: object) -> Failure:
    return Failure(404, 3, "Unknown_Webhook", f'Unknown webhook ID "{ident}"')


def invalid_reject(email: str) -> Failure:
    return Failure(404, 4, "Invalid_Reject", f'No reject exists for "{email}"')


def invalid_template(name: str) -> Failure:
    text = f'A template with name "{name}" already exists'
    return Failure(422, 6, "Invalid_Template", text)


def validation(field: str, text: str) -> Failure:
    message = f"Validation error: {orjson.dumps({field: text}).decode()}"
    return Failure(422, -2, "ValidationError", message)


def malformed(text: str) -> Failure:
    return Failure(400, -2, "ValidationError", text)


def not_a_post() -> Failure:
    return Failure(405, -2, "ValidationError", "Please use POST for API calls.")


def unknown_method(path: str) -> Failure:
    return Failure(404, -1, "Unknown_Method", f'Unknown method "{path}"')


def too_many_requests() -> Failure:
    return Failure(429, 429, "RequestLimitExceeded", "Too many requests, please wait.")


def by_status(status: int) -> Failure:
    """The usual failure of a bare HTTP status, for targeted faults."""
    usual = {
        401: invalid_key(),
        402: payment_required(),
        404: unknown_message(""),
        422: validation("", "The sandbox was told to answer this."),
        429: too_many_requests(),
        503: Failure(503, -2, "ServiceUnavailable", "The service is temporarily unavailable."),
    }
    text = "We were unable to process your request."
    return usual.get(status) or Failure(status, -1, "GeneralError", text)

"""What is wrong with a TLS connection, in words: for Mailchimp, the egress proxy, PostgreSQL and Redis alike."""

import ssl
from typing import Final

_VERIFY_NAMES: Final = {62, 63, 64}
_VERIFY_ISSUERS: Final = {2, 7, 18, 19, 20, 21}
"""OpenSSL's X509_V_ERR codes."""


def tls_error(error: BaseException) -> ssl.SSLError | None:
    """Find the error of TLS that caused another error; None where the cause is something else."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    return cause


def tls_problem(error: BaseException, *, of: str, authority: str) -> str | None:
    """Say in sentences what failed about TLS and what to do; None where the cause is something else.

    `of` names the server. `authority` says where an authority that is not known yet is named.
    """
    found = tls_error(error)
    if found is None:
        return None
    wrong = certificate_problem(error, of=of)
    if wrong is None:
        reason = f" ({found.reason})" if found.reason else ""
        return (
            f"{of} does not speak TLS as expected{reason}: something else may answer there, or it wants a"
            " certificate of the client."
        )
    if untrusted_issuer(error):
        return f"{wrong} Name that authority in {authority}."
    if getattr(found, "verify_code", 0) in _VERIFY_NAMES:
        return f"{wrong} Connect by the name that is in the certificate."
    return f"{wrong} Put a right one on the server."


def untrusted_issuer(error: BaseException) -> bool:
    """Say whether a certificate was refused because of the authority that issued it."""
    return getattr(tls_error(error), "verify_code", 0) in _VERIFY_ISSUERS


def certificate_problem(error: BaseException, *, of: str) -> str | None:
    """Say in a sentence what is wrong with a certificate; None where it was not looked at.

    `of` begins the sentence and names whose certificate it is.
    """
    match getattr(tls_error(error), "verify_code", 0):
        case 10:
            what = "that has expired, or this clock is wrong"
        case 9:
            what = "that is not valid yet, or this clock is wrong"
        case code if code in _VERIFY_NAMES:
            what = "for another name"
        case code if code in _VERIFY_ISSUERS:
            what = "of an authority that is not trusted"
        case code if code:
            what = "that is not trusted"
        case _:
            return None
    return f"{of} has a TLS certificate {what}."

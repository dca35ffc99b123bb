"""The codes with which the procedures of transactional mail refuse."""

from __future__ import annotations

from mcsync.core.web.problems import register_problem

for _row in (
    ("transactional_key_refused", 400, "Mailchimp Transactional does not accept this API key",
     "Make a key in Mailchimp Transactional and copy it whole; a Marketing key does not work there."),
    ("bad_signature", 403, "The signature is not Mailchimp's", "Only Mailchimp posts here."),
    ("unreadable_events", 400, "The events cannot be read", "Only Mailchimp posts here."),
    ("send_at_too_far", 400, "The time is more than a year ahead", "Send it nearer to its time."),
    ("message_not_found", 404, "No such message", "transactional.list shows all messages."),
    ("template_not_found", 404, "No such template", "transactional.listTemplates shows all templates."),
    ("transactional_not_connected", 409, "No Mailchimp Transactional account is connected",
     "Call transactional.connect first."),
    ("transactional_account_mismatch", 409, "The key belongs to another Transactional account",
     "Disconnect first with transactional.disconnect, or use a key of the connected account."),
    ("not_cancellable", 409, "The message cannot be cancelled any more",
     "Only a message whose status is `queued` can; read `status` with transactional.get."),
    ("not_unconfirmed", 409, "The message is not unconfirmed",
     "Only a message whose status is `unconfirmed` is sent again on request."),
    ("content_gone", 409, "The message's content is no longer kept",
     "Send it anew with transactional.send."),
    ("message_too_large", 413, "The message is larger than Mailchimp takes",
     "Send fewer or smaller attachments: the whole call stays below 10 MB, base64 included."),
):  # fmt: skip
    register_problem(*_row)

"""Finding out how the connected Mailchimp account answers the open questions (``docs/probe.md``)."""

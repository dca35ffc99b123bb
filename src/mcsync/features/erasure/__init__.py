"""The right to erasure, end to end: request, stores, Mailchimp, receipt; and the right of access."""

"""The control API under /_sandbox: what tests and benches tell and ask the sandbox. Nothing of it is Mailchimp's."""

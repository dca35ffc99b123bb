"""mcsync keeps Mailchimp audiences true to an organisation's own contacts."""

__version__ = "0.1.0"

"""Tests of the Mailchimp client."""

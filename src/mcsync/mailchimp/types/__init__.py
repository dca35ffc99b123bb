"""Answers of Mailchimp as typed, immutable models, one module a noun."""

"""The sandbox against the facts about Mailchimp, over a real socket, with plain httpx."""

"""How large a message may be (MC 17.5). Megabytes are decimal: right under either reading."""

from typing import Final

import orjson

from mcsync.mailchimp.transactional.message import Message

MESSAGE_BYTES: Final = 25_000_000
"""The message itself, with its files as base64."""
CALL_BYTES: Final = 10_000_000
"""The whole JSON of one call. It binds first: a message sent this way stays below it."""
METADATA_BYTES: Final = 200
"""As JSON; newer pages say 250, older ones 200."""
_ENVELOPE: Final = 512
"""Key, template name, time: what a call carries beside the message."""


class MessageTooLargeError(ValueError):
    """The message cannot be sent as it is. `part` is `message`, `call` or `metadata`."""

    def __init__(self, part: str, size: int, limit: int) -> None:
        super().__init__(f"{part} of {size} bytes; the limit is {limit}")
        self.part = part
        self.size = size
        self.limit = limit


def base64_size(size: int) -> int:
    """Return the characters that `size` bytes take as base64."""
    return (size + 2) // 3 * 4


def message_size(message: Message) -> int:
    """Return the bytes of texts and files as they are sent."""
    texts = (message.html, message.text, message.subject)
    files = (*message.attachments, *message.images)
    return sum(len(text.encode()) for text in texts if text) + sum(
        len(file.content) for file in files
    )


def call_size(message: Message) -> int:
    """Return about how many bytes a call with this message has, rather too many."""
    return len(orjson.dumps(message.as_json())) + _ENVELOPE


def check_size(message: Message) -> None:
    """Raise `MessageTooLargeError` where the message is over a limit."""
    over: list[tuple[str, int, int]] = [
        ("message", message_size(message), MESSAGE_BYTES),
        ("call", call_size(message), CALL_BYTES),
    ]
    values = [message.metadata]
    values += [message.metadata | each.values for each in message.recipient_metadata]
    over.append(("metadata", max(len(orjson.dumps(each)) for each in values), METADATA_BYTES))
    for part, size, limit in over:
        if size > limit:
            raise MessageTooLargeError(part, size, limit)

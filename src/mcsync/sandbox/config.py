"""What can be set in the sandbox: every unverified choice of MC is a switch here (MC 20, last line)."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

DEFAULT_KEY = "5a9d0b0c1e2f3a4b5c6d7e8f90a1b2c3-us1"


@dataclass(slots=True)
class Latency:
    """How long a call takes."""

    base_ms: float = 0.0
    per_member_ms: float = 0.0
    """For each member that a write call carries; single writes carry one."""
    per_read_member_ms: float = 0.0
    """For each row that a read call asks for (`count`)."""
    apply_at: float = 1.0
    """When within the latency the work takes effect: 0 at once, 1 at the end."""


@dataclass(slots=True)
class Faults:
    """Random faults. `kinds` maps a kind to its weight; see `faults.py` for the kinds."""

    rate: float = 0.0
    kinds: dict[str, float] = field(default_factory=dict)
    seed: int = 0
    methods: list[str] = field(default_factory=list)
    """Only calls of these methods are hit; empty means all."""
    path: str = ""
    """Only calls whose path (after /3.0) matches this regular expression are hit; empty means all."""
    slow_seconds: float = 1.0
    """Delay of the kind `slow` where it names none (`slow:2.5` names one)."""


@dataclass(slots=True)
class WebhookRules:
    """How webhooks are served (MC 9)."""

    signing: bool = True
    """Accounts since 2026 can have posts signed; others ignore `signing_enabled`."""
    timeout_seconds: float = 10.0
    retry_seconds: list[float] = field(
        default_factory=lambda: [60.0, 180.0, 420.0, 840.0, 1200.0, 1800.0]
    )
    """Pauses between tries: growing, 75 minutes in all."""
    retry_scale: float = 1.0
    """Factor on the pauses, for tests."""
    disable_after: int = 3
    """[U] So many deliveries lost in a row disable a webhook; 0 never does."""
    disabled_listed: bool = False
    """[U] A disabled webhook is still listed, with nothing to tell it apart."""
    connections: int = 10
    """Posts to one webhook at a time."""
    delay_seconds: float = 0.0
    """Every post starts so much later."""
    jitter_seconds: float = 0.0
    """And by a random part of this, so that posts overtake each other."""
    double_every: int = 0
    """Every so-manieth post goes out twice; 1 doubles all."""
    action_missing: bool = False
    """Unsubscribe posts lack `data[action]` (MC 18.15)."""
    permanent_delete_fires: bool = True
    """[U] A permanent deletion posts an unsubscribe with the action `delete`."""


@dataclass(slots=True)
class CampaignRules:
    """How campaigns go and do (MC 11, 12)."""

    sending_seconds: float = 60.0
    """How long one takes to be sent, whatever its size; as much for one to be cancelled."""
    response_hours: float = 6.0
    """Opens and clicks approach their end like 1 - e^(-t / this)."""
    proxy_excluded: bool = True
    """Reports tell the opens without Apple's Mail Privacy Protection too."""


@dataclass(slots=True)
class MandrillRules:
    """How the Transactional API behaves (MC 17)."""

    key: str = "md-Sandbox0Transactional1Key"
    username: str = "sandbox"
    index_lag_seconds: float = 0.0
    """info and search find a message only so long after it was handed in."""
    metadata_always_indexed: bool = False
    """Metadata can be searched for without /metadata/add."""
    metadata_index_seconds: float = 0.0
    """How long a new metadata field stays in the state `index`."""
    searches_per_minute: int = 20
    queue_seconds: float = 0.0
    """How long a queued message waits."""
    most_at_once: int = 10
    """More recipients are queued whatever `async` says."""
    max_call_bytes: int = 10 * 1024 * 1024
    max_message_bytes: int = 25 * 1024 * 1024
    max_metadata_bytes: int = 250
    unsigned_pattern: str = ""
    """Senders whose lower-case domain matches are rejected as unsigned."""
    paid: bool = True
    """Free accounts may not schedule."""
    blank_unknown_tags: bool = False
    """[U] Merge tags without a value vanish instead of staying as they are."""
    webhook_seconds: float = 60.0
    """Pause before events go out together."""
    webhook_retry_seconds: float = 1200.0
    webhook_retries: int = 20
    """So many failed tries in a row disable a webhook."""
    webhook_timeout_seconds: float = 10.0
    webhook_scale: float = 1.0
    """Factor on the pauses, for tests."""


@dataclass(slots=True)
class SandboxConfig:
    """Behaviour of the sandbox; fields marked [U] are open questions in MC, set to the likelier answer."""

    api_key: str = DEFAULT_KEY
    account_name: str = "Sandbox Ltd"
    lists: list[str] = field(default_factory=lambda: ["All staff", "Suppliers"])
    most_lists: int = 0
    """How many audiences the plan allows; 0 for any number."""
    permissions: list[str] = field(default_factory=list)
    """Texts of the GDPR fields of every list made from now on; empty for none (MC 16)."""
    connections: int = 10
    """Calls in flight per account; one more is answered 429 at once (MC 15)."""
    too_many_empty: bool = False
    """The 429 of the connection limit has no body (MC 14)."""
    latency: Latency = field(default_factory=Latency)
    faults: Faults = field(default_factory=Faults)
    webhooks: WebhookRules = field(default_factory=WebhookRules)
    campaigns: CampaignRules = field(default_factory=CampaignRules)
    mandrill: MandrillRules = field(default_factory=MandrillRules)
    history: bool = True
    """Keep the log of member changes; turn off for benches with a million rows."""
    shuffle: bool = True
    """[U] Bulk answers come in another order than the request (MC 3.3)."""
    require_status: bool = False
    """Accounts before 2026: batch rows without `status` refuse the whole call, `status_if_new` is ignored."""
    silent_keep_unsubscribed: bool = False
    """Bulk `subscribed` for a person who left: silently kept instead of an error entry (MC 18.1)."""
    bulk_resubscribe_ignored: bool = False
    """[U] Bulk `subscribed` for a member whom the API or staff unsubscribed changes nothing, silently (MC 21)."""
    bulk_keeps_timestamp_opt: bool = False
    """[U] A bulk row that subscribes a member again keeps its timestamp_opt, as a PUT does (MC 21)."""
    unchanged_in_updated_members: bool = True
    """[U] An unchanged member is listed in updated_members (MC 3.3)."""
    schema_errors_per_row: bool = False
    """Schema failures of one batch row become an error entry (as in 2019) instead of a 400 for the call."""
    nullable_rows: bool = True
    """`null` in batch rows counts as absent (2026 spec); in single writes it is always refused (MC 2)."""
    empty_batch_is_error: bool = False
    """[U] `members: []` is a 400."""
    duplicates_ignore_case: bool = True
    """[U] Case variants of an address within one batch are duplicates."""
    archived_in_default_listing: bool = False
    """[U] GET members without `status` holds archived members (MC 4.6, 21)."""
    subscribed_turns_pending: bool = True
    """[U] `pending` for a subscribed member makes it pending (MC 4.4)."""
    archive_keeps_compliance: bool = False
    """[U] Archiving does not wash off a person's unsubscribe or a bounce."""
    says_an_admin: bool = False
    """[U] The reason of an unsubscribe by API or staff has the wording of before 2018 (MC 21)."""
    own_reason_empty: bool = False
    """[U] A person who unsubscribes and gives no reason leaves it empty (MC 21)."""
    other_refusal_words: bool = False
    """Refusals of members who left or were deleted come in their other recorded words, in `errors` (MC 21)."""
    null_merge_fields: bool = False
    """[U] Listings show `merge_fields` and `interests` of members without any value as null (MC 21)."""
    resubscribe_sets_source: bool = True
    """[U] A status write that subscribes a member again sets its `source` to the API."""
    email_change_needs_subscribed: bool = True
    """[U] Only subscribed members may change their address (MC 4.3)."""
    tags_on_update: bool = False
    """`tags` of PUT and PATCH act on existing members too (2026 spec; ignored before, MC 18.3)."""
    tags_move_last_changed: bool = True
    """A change of tags alone moves last_changed (MC 21)."""
    held_tag_moves_last_changed: bool = True
    """[U] Activating a tag that the member carries already moves last_changed too (MC 21)."""
    equal_values_move_last_changed: bool = True
    """[U] A PUT or PATCH that names only equal values moves last_changed, as in 2016 (MC 21)."""
    bulk_tags: str = "added"
    """[U] `tags` of a bulk row without sync_tags, for an existing member: `added`, `replaced` or `ignored`."""
    sync_tags_replaces: bool = True
    """Rows with sync_tags replace the whole set of an existing member; otherwise they only add (MC 21)."""
    malformed_tags_accepted: bool = True
    """POST tags answers 204 for a malformed body and does nothing (MC 4.7)."""
    partial_address_dropped: bool = False
    """An incomplete address is silently not stored instead of refused (MC 18.4)."""
    hash_only_paths: bool = True
    """delete-permanent and POST tags take nothing but the MD5 in their path (MC 4.1)."""
    ascii_lowering: bool = False
    """[U] The hash lowers A-Z only (MC 4.1). For lists made from now on."""
    both_spellings_one_member: bool = False
    """[U] The U-label and the A-label form of a domain name the same member (MC 21). For lists made from now on."""
    segment_unknown_in_errors: bool = False
    """Unknown addresses of POST segments/{id} are listed in errors[] instead of ignored (MC 7)."""
    segment_takes_archived: bool = True
    """[U] POST segments/{id} acts on archived members."""
    segment_lists_pending: bool = False
    """[U] Segment members and counts hold pending members."""
    fields_ignored: bool = False
    """The `fields` parameter is ignored (MC 18.25)."""
    fake_address_rule: bool = False
    """Addresses at example.com, .net and .org are refused as fake (MC 18.6)."""
    fake_pattern: str = ""
    """Lower-case addresses matching this regular expression are refused as fake."""
    throttle_pattern: str = ""
    """Lower-case addresses matching this regular expression are refused as throttled (MC 18.7)."""
    batch_step_ms: float = 30.0
    """Time an asynchronous batch spends in each state before `finished` (MC 10)."""


CHOICES = {"bulk_tags": ("added", "replaced", "ignored")}
"""The settings that are one of a few words."""

T = TypeVar("T", bound="DataclassInstance")


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()


def _coerce(name: str, current: object, value: object) -> object:
    """`value` if it has the kind of `current`; numbers may come as whole or with a fraction."""
    wanted = type(current)
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise ValueError(f"{name}: expected {wanted.__name__}, got {type(value).__name__}")
    if name in CHOICES and value not in CHOICES[name]:
        raise ValueError(f"{name}: expected one of {', '.join(CHOICES[name])}")
    if isinstance(value, str) and name.endswith(("pattern", "path")):
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"{name}: {error}") from error
    return value


def _nested(current: object, value: object) -> object | None:
    """A group of settings with some replaced; None if the setting is no group."""
    if isinstance(value, dict) and dataclasses.is_dataclass(current):
        assert not isinstance(current, type)
        return patched(current, value)
    return None


def patched(config: T, changes: dict[str, Any]) -> T:
    """A copy of `config` with the fields of a camelCase (or snake_case) JSON object replaced; ValueError if unknown."""
    values: dict[str, Any] = {}
    for key, value in changes.items():
        name = _snake(key)
        if name not in {each.name for each in dataclasses.fields(config)}:
            raise ValueError(f"unknown setting: {key}")
        current = getattr(config, name)
        group = _nested(current, value)
        values[name] = _coerce(name, current, value) if group is None else group
    return dataclasses.replace(config, **values)

"""Every row of a bulk call is accounted for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsync.mailchimp import BatchResult, RefusalCode, RowOutcome, account_rows, chunked

ADDRESSES = st.lists(st.sampled_from([f"user{n}@corp.test" for n in range(8)]), max_size=12)


def result(new: list[str], updated: list[str], errors: list[str]) -> BatchResult:
    return BatchResult.model_validate(
        {
            "new_members": [{"email_address": address} for address in new],
            "updated_members": [{"email_address": address} for address in updated],
            "errors": [{"email_address": address, "error": "x"} for address in errors],
        }
    )


def test_each_row_gets_its_outcome_whatever_order_and_case() -> None:
    answer = BatchResult.model_validate_json(
        b'{"new_members":[{"email_address":"C@x.org","status":"subscribed","last_changed":""}],'
        b'"updated_members":[{"email_address":"A@X.org","status":"unsubscribed",'
        b'"last_changed":"2026-01-02T03:04:05+00:00","tags":[{"id":1,"name":"vip"}]}],'
        b'"errors":[{"email_address":"b@x.org","error":"b@x.org looks fake or invalid",'
        b'"error_code":"ERROR_GENERIC","field":null}],"total_created":1}'
    )
    accounting = account_rows([" a@x.org", "b@x.org", "c@x.org", "d@x.org"], answer)
    assert [row.outcome for row in accounting.rows] == ["updated", "error", "new", "missing"]
    assert accounting.rows[0].member is not None
    assert accounting.rows[0].member.status == "unsubscribed"
    assert accounting.rows[1].refusal is RefusalCode.FAKE
    assert accounting.rows[0].refusal is None
    assert accounting.missing == ("d@x.org",)
    assert accounting.unexpected == ()


@given(ADDRESSES, ADDRESSES, ADDRESSES, ADDRESSES)
def test_no_row_is_lost(
    sent: list[str], new: list[str], updated: list[str], errors: list[str]
) -> None:
    accounting = account_rows(sent, result(new, updated, errors))
    assert [row.address for row in accounting.rows] == sent
    for row in accounting.rows:
        if row.address in errors:
            expected = RowOutcome.ERROR
        elif row.address in new:
            expected = RowOutcome.NEW
        elif row.address in updated:
            expected = RowOutcome.UPDATED
        else:
            expected = RowOutcome.MISSING
        assert row.outcome is expected
    assert set(accounting.unexpected) == {*new, *updated, *errors} - set(sent)


def test_chunks_hold_at_most_their_size() -> None:
    assert [len(chunk) for chunk in chunked(range(1201))] == [500, 500, 201]
    assert list(chunked([])) == []
    with pytest.raises(ValueError, match="size"):
        list(chunked([1], 0))


def test_an_answer_in_the_other_spelling_of_a_domain_is_the_rows_too() -> None:
    unicode, a_label = "x@bücher.test", "x@xn--bcher-kva.test"
    for sent, answered in ((unicode, a_label), (a_label, unicode)):
        for answer in (result([answered], [], []), result([], [], [answered])):
            accounting = account_rows([sent, "y@corp.test"], answer)
            assert [row.address for row in accounting.rows] == [sent, "y@corp.test"]
            assert accounting.rows[0].outcome in (RowOutcome.NEW, RowOutcome.ERROR)
            assert accounting.missing == ("y@corp.test",)
            assert accounting.unexpected == ()


def test_both_spellings_that_were_sent_keep_their_own_answers() -> None:
    unicode, a_label = "x@bücher.test", "x@xn--bcher-kva.test"
    accounting = account_rows([unicode, a_label], result([], [a_label], []))
    assert [row.outcome for row in accounting.rows] == [RowOutcome.MISSING, RowOutcome.UPDATED]

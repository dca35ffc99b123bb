#!/bin/sh
# The tour of README.md as a script, against a running `make dev`. Needs curl and python3.
#
#   URL=http://127.0.0.1:8000 TOKEN=mcs_... MAILCHIMP=http://127.0.0.1:12345/3.0 examples/tour.sh
#
# The three values are what `make dev` prints. It may run again: each time it makes a segment of its own.
set -eu
cd "$(dirname "$0")/.."

URL=${URL:-http://127.0.0.1:8000}
: "${TOKEN:?Copy the token that make dev prints: TOKEN=mcs_... examples/tour.sh}"
: "${MAILCHIMP:?Copy the Mailchimp address that make dev prints: MAILCHIMP=http://... examples/tour.sh}"
# The key of the sandbox. It opens nothing but the sandbox.
KEY=5a9d0b0c1e2f3a4b5c6d7e8f90a1b2c3-us1

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'tour: %s\n' "$*" >&2; exit 1; }

# A query, a mutation, and a run until it ends. Each prints the answer's JSON; an error ends the tour.
call() {
  answer=$(curl -sS -w '\n%{http_code}' -H "Authorization: Bearer $TOKEN" "$@")
  case ${answer##*
} in
    2??) printf '%s\n' "${answer%
*}" ;;
    *) fail "refused: $answer" ;;
  esac
}
query() { call "$URL/mailchimp/$1"; }
mutate() { call -H 'Content-Type: application/json' -d "$2" "$URL/mailchimp/$1"; }
watch() {
  curl -sSN -H "Authorization: Bearer $TOKEN" "$URL/mailchimp/segments/watchRun?id=$1" |
    sed -n 's/^data: //p' | tail -n 1
}

# `pick EXPRESSION` reads JSON and prints a part of it, d being the whole; `show` prints it in one line.
# No answer, no part: then `call` has said why.
pick() {
  python3 -c '
import json, sys
text = sys.stdin.read() or sys.exit(1)
d = json.loads(text)
print(eval(sys.argv[1]))' "$1"
}
show() {
  python3 -c '
import json, sys
text = sys.stdin.read() or sys.exit(1)
d = json.loads(text)
d = {name: d[name] for name in sys.argv[1:]} if len(sys.argv) > 1 else d
print("  ", json.dumps(d, ensure_ascii=False)[:400])' "$@"
}
expect() { [ "$1" = "$2" ] || fail "expected $2, found $1"; }
# What Mailchimp itself says of an address in an audience.
at_mailchimp() {
  hash=$(printf %s "$2" | python3 -c '
import hashlib, sys
print(hashlib.md5(sys.stdin.read().lower().encode()).hexdigest())')
  curl -sS -u "any:$KEY" "$MAILCHIMP/lists/$1/members/$hash?fields=status" | pick 'd["status"]'
}

say "Connect, and see the account's audiences"
mutate connection/connect "{\"apiKey\": \"$KEY\"}" | show accountName keyLast4 status
audiences=$(query connection/listAudiences)
printf '%s' "$audiences" | show items
AUDIENCE=$(printf '%s' "$audiences" | pick 'd["items"][0]["audienceId"]')

say "Import the example contacts: right rows go in, all others are reported"
call -H 'Content-Type: text/csv' --data-binary @examples/contacts.csv "$URL/mailchimp/contacts/import" |
  show received created updated unchanged rejected

say "What is recorded of one of them"
query 'preferences/getForEntity?entityType=employee&entityId=E-10000' | show status consentGivenAt source

say "A segment: all employees who opted in"
NAME="Tour $(date +%Y-%m-%d\ %H:%M:%S)"
SEGMENT=$(mutate segments/create \
  "{\"name\": \"$NAME\", \"segmentType\": \"employee\", \"audienceId\": \"$AUDIENCE\"}" | pick 'd["id"]')
echo "   $SEGMENT $NAME"

say "Preview: what a sync would do, as far as mcsync knows"
mutate segments/preview "{\"id\": \"$SEGMENT\", \"sample\": 1}" | show byReason sample

say "Dry run: pulls from Mailchimp first, plans, stops"
RUN=$(mutate segments/sync "{\"id\": \"$SEGMENT\", \"dryRun\": true}" | pick 'd["id"]')
ended=$(watch "$RUN")
printf '%s' "$ended" | show status dryRun counts
expect "$(printf '%s' "$ended" | pick 'd["status"]')" succeeded

say "Sync, and watch until it ends"
RUN=$(mutate segments/sync "{\"id\": \"$SEGMENT\"}" | pick 'd["id"]')
ended=$(watch "$RUN")
printf '%s' "$ended" | show status counts skippedByReason calls
expect "$(printf '%s' "$ended" | pick 'd["status"]')" succeeded

say "What it did, row by row"
changes=$(query "segments/listChanges?id=$RUN&state=done&limit=1")
printf '%s' "$changes" | show items
ENTITY=$(printf '%s' "$changes" | pick 'd["items"][0]["contact"]["entityId"]')
EMAIL=$(printf '%s' "$changes" | pick 'd["items"][0]["email"]')

say "One person opts out: no sync is needed"
echo "   before: $(at_mailchimp "$AUDIENCE" "$EMAIL")"
mutate preferences/updateOptStatus "{\"entityType\": \"employee\", \"entityId\": \"$ENTITY\",
  \"status\": \"opted_out\", \"source\": \"tour\"}" | show status consentWithdrawnAt address
tries=0
until [ "$(at_mailchimp "$AUDIENCE" "$EMAIL")" = unsubscribed ]; do
  tries=$((tries + 1))
  [ "$tries" -lt 40 ] || fail "the opt-out did not reach Mailchimp"
  sleep 0.25
done
echo "   after:  $(at_mailchimp "$AUDIENCE" "$EMAIL")"

say "The same file again: its older opt-in does not lift the withdrawal"
call -H 'Content-Type: text/csv' --data-binary @examples/contacts.csv "$URL/mailchimp/contacts/import" |
  pick '[r for r in d["rejections"] if r["code"] == "opt_in_not_newer"][0]'

say "A filter makes the segment much smaller: the guard holds the removals"
mutate segments/update "{\"id\": \"$SEGMENT\", \"filters\": {\"department\": [\"Engineering\"]}}" |
  show filters version
RUN=$(mutate segments/sync "{\"id\": \"$SEGMENT\"}" | pick 'd["id"]')
ended=$(watch "$RUN")
printf '%s' "$ended" | show status held holds
if [ "$(printf '%s' "$ended" | pick 'd["status"]')" = awaiting_approval ]; then
  say "Approve them"
  mutate segments/approveRun "{\"id\": \"$RUN\"}" | show status
  ended=$(watch "$RUN")
  printf '%s' "$ended" | show status counts
fi
expect "$(printf '%s' "$ended" | pick 'd["status"]')" succeeded

say "Everything that happened is in the audit, and its chain is whole"
query 'audit/list?limit=3' | pick '[(e["action"], e["actorLabel"]) for e in d["items"]]'
query audit/verify | show valid entries

say "Done. The same procedures, with forms: $URL/docs"

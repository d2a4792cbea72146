#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""checker: the invariants of docs/reliability.md, asserted on what clients can see and on
what a stopped server left on its disk.

  I1  each non-blank input line occurs exactly once over the output and the error file
  I2  the counts equal the lines of the files
  I3  both files are JSONL, every line has the custom_id of its input line, in input order
  I4  bytes of a file object = bytes of the file; ranges of the whole = the whole
  I5  a finished result never changes
  I6  states and timestamps only move forward
  I7  counts never decrease
  I8  what was acknowledged is still true
  I9  the ledger is sound; rows and files match; tmp/ and spool/ hold nothing finished
  I10 what was waited for has come to its end (the time limits of the tests)
  I11 the upstream saw each line at most 1 + retries + crashes times
  I12 (there is one process: no claims to be fenced)
  I13 what belongs together is of one project
  I14 resources return to their baseline (see Baseline)
  I15 what was refused left nothing behind (see state_of)
  I16 each end of a batch is delivered, given up or due, once for each receiver
and beyond them: every request body reached the upstream byte for byte, and every answer
reached the output file byte for byte.

A violation is a Broken exception that names its invariant.  By hand, on a stopped server:
  tests/e2e/checker.py --data-dir DIR
or on a running one:
  tests/e2e/checker.py --server http://HOST:PORT --batch ID --input FILE [--oracle http://SIM]
"""

import argparse
import collections
import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import sqlite3
import sys
import tempfile
import time
import urllib.parse
import zlib

TERMINAL = ("completed", "failed", "expired", "cancelled")
REACH = {
    "validating": {"validating", "in_progress", "failed", "finalizing", "completed", "expired",
                   "cancelling", "cancelled"},
    "in_progress": {"in_progress", "finalizing", "completed", "expired", "cancelling",
                    "cancelled"},
    "finalizing": {"finalizing", "completed", "expired"},
    "cancelling": {"cancelling", "cancelled"},
    **{s: {s} for s in TERMINAL},
}
STAMPS = ("created_at", "in_progress_at", "expires_at", "finalizing_at", "completed_at",
          "failed_at", "expired_at", "cancelling_at", "cancelled_at")
BATCH_KEYS = {"id", "object", "endpoint", "model", "errors", "input_file_id",
              "completion_window", "status", "output_file_id", "error_file_id",
              "request_counts", "usage", "metadata", *STAMPS}
# status: (timestamps that must be set, in their order; those that may be)
PATHS = {
    "validating": (("created_at",), ()),
    "in_progress": (("created_at", "in_progress_at"), ()),
    "finalizing": (("created_at", "in_progress_at", "finalizing_at"), ()),
    "completed": (("created_at", "in_progress_at", "finalizing_at", "completed_at"), ()),
    "expired": (("created_at", "in_progress_at", "finalizing_at", "expired_at"), ()),
    "failed": (("created_at", "failed_at"), ()),
    "cancelling": (("created_at", "cancelling_at"), ("in_progress_at",)),
    "cancelled": (("created_at", "cancelling_at", "cancelled_at"), ("in_progress_at",)),
}


class Broken(AssertionError):
    """An invariant does not hold."""


def need(cond, invariant, text):
    if not cond:
        raise Broken(f"{invariant}: {text}")


# ---------------------------------------------------------------- raw JSON

# Numbers stay text: values are compared as they were written, never as Python reads them.
_RAW = json.JSONDecoder(parse_int=str, parse_float=str)
_SPACE = re.compile(r"[ \t\r\n]*")


def members(text):
    """The members of a JSON object as {name: raw text of the value}."""
    at = _SPACE.match(text, 0).end()
    if text[at:at + 1] != "{":
        raise ValueError("not an object")
    got, at = {}, _SPACE.match(text, at + 1).end()
    while text[at] != "}":
        name, at = _RAW.raw_decode(text, at)
        at = _SPACE.match(text, at).end()
        if text[at] != ":":
            raise ValueError("no colon")
        start = _SPACE.match(text, at + 1).end()
        _, at = _RAW.raw_decode(text, start)
        got[name] = text[start:at]
        at = _SPACE.match(text, at).end()
        if text[at] == ",":
            at = _SPACE.match(text, at + 1).end()
    if text[at + 1:].strip():
        raise ValueError("text after the object")
    return got


class InputLine:
    """A request of an input file: its line number, custom_id and raw body."""

    def __init__(self, number, text):
        raw = members(text)
        self.number = number
        self.custom_id = json.loads(raw["custom_id"])
        self.body = raw["body"].encode()


def input_lines(data):
    """The requests of a valid input file, in order; blank lines are counted, not kept."""
    if data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
    return [InputLine(number, line.decode())
            for number, line in enumerate(data.split(b"\n"), 1) if line.strip()]


class ResultLine:
    """A line of an output or error file."""

    def __init__(self, text):
        raw = members(text)
        self.text = text
        need(list(raw) == ["id", "custom_id", "response", "error"], "I3",
             f"members of a result line: {list(raw)} in {text[:200]}")
        self.id = json.loads(raw["id"])
        self.custom_id = json.loads(raw["custom_id"])
        self.error = json.loads(raw["error"])
        self.status = self.request_id = self.body = None
        if raw["response"] != "null":
            response = members(raw["response"])
            need(list(response) == ["status_code", "request_id", "body"], "I3",
                 f"members of a response: {list(response)}")
            self.status = int(response["status_code"])
            self.request_id = json.loads(response["request_id"])
            self.body = response["body"].encode()
        need(re.fullmatch(r"batch_req_[0-9a-f]{32}", self.id), "I3", f"id of a line: {self.id}")

    @property
    def json(self):
        return json.loads(self.body)


def result_lines(data, what):
    need(not data or data.endswith(b"\n"), "I3", f"the {what} file does not end in a line feed")
    need(data != b"" or what is None, "I3", f"an empty {what} file was published")
    got = []
    for number, line in enumerate(data[:-1].split(b"\n"), 1):
        try:
            got.append(ResultLine(line.decode()))
        except (ValueError, KeyError) as e:
            raise Broken(f"I3: line {number} of the {what} file: {e}: {line[:200]!r}") from None
    return got


# ---------------------------------------------------------------- what clients see over time

class Watch:
    """Remembers over crashes and restarts what the API said, and holds it to it."""

    def __init__(self):
        self.batches = {}  # id: the last object seen
        self.files = {}  # id: sha256 of the bytes that were acknowledged
        self.gone = set()  # deleted files
        self.cancels = set()
        self.results = {}  # file id: sha256 of a result file's bytes once read
        self.lines = {}  # batch id: {custom_id: a result line as it was read}
        self.uploads = {}  # id: the last object seen
        self.parts = {}  # id: the id of its upload
        self.asked = {}  # batch id: what its progress said of its owner's wishes
        self.names = {}  # Idempotency-Key: the batch that it made
        self.hooks = None  # names of all receivers; None: not known

    def uploaded(self, file, data):
        need(file["bytes"] == len(data), "I4", f"uploaded {len(data)} bytes, but: {file}")
        self.files[file["id"]] = hashlib.sha256(data).digest()

    def deleted(self, file_id):
        self.files.pop(file_id, None)
        self.gone.add(file_id)

    @contextlib.contextmanager
    def deleting(self, file_id):
        """Around a delete.  Unanswered, or answered by a server at its end, it may have been done:
        then nothing is promised of the file."""
        digest = self.files.pop(file_id, None)
        try:
            yield
        except AssertionError as e:
            if digest and getattr(e, "answer", None) and e.answer.status < 500:
                self.files[file_id] = digest
            raise
        self.deleted(file_id)

    def cancelled(self, batch_id):
        self.cancels.add(batch_id)

    def changed(self, batch):
        """A call of ours changed its window: from now on it is as this object says."""
        old = self.batches.get(batch["id"], batch)
        self.batches[batch["id"]] = {**old, "expires_at": batch["expires_at"],
                                     "completion_window": batch["completion_window"]}
        self.saw(batch)

    def told(self, got, headers):
        """Any object that the API answered with; batches come by saw()."""
        kind = got.get("object")
        if kind == "upload":
            self.saw_upload(got)
        elif kind == "upload.part":
            self.parts[got["id"]] = got["upload_id"]
        elif kind == "batch.progress":
            self.asked[got["id"]] = {k: got[k] for k in ("priority", "paused", "reused")}
        elif kind == "batch":
            self.asked.pop(got["id"], None)  # it may be the answer to an edit
            name = (headers or {}).get("Idempotency-Key")
            need(self.names.setdefault(name, got["id"]) == got["id"] or not name, "I8",
                 f"the Idempotency-Key {name} made {self.names[name]} and now {got['id']}")

    def saw_upload(self, upload):
        old = self.uploads.get(upload["id"], upload)
        need(old["status"] in ("pending", upload["status"]), "I6",
             f"{upload['id']} went from {old['status']} to {upload['status']}")
        for key in ("bytes", "filename", "purpose", "created_at", "expires_at"):
            need(old[key] == upload[key], "I8", f"{upload['id']}: {key} changed: {upload}")
        need(not old.get("file") or old["file"]["id"] == upload["file"]["id"], "I5",
             f"{upload['id']} became {old.get('file')} and is {upload.get('file')}")
        self.uploads[upload["id"]] = upload

    def read_lines(self, batch_id, data):
        """Result lines that were read while the batch ran; a last one may be half."""
        seen = self.lines.setdefault(batch_id, {})
        for line in data.split(b"\n")[:-1]:
            name = ResultLine(line.decode()).custom_id
            need(seen.setdefault(name, line) == line, "I5",
                 f"{batch_id}: the result of {name} was {seen[name][:200]!r} and is {line[:200]!r}")

    def saw(self, batch):
        check_shape(batch)
        old = self.batches.get(batch["id"])
        self.batches[batch["id"]] = batch
        if old is None:
            return
        was, now = old["status"], batch["status"]
        need(now in REACH[was], "I6", f"{batch['id']} went from {was} to {now}")
        for key in STAMPS:
            need(old[key] is None or old[key] == batch[key], "I6",
                 f"{batch['id']}: {key} changed from {old[key]} to {batch[key]}")
        for key in ("total", "completed", "failed"):
            need(batch["request_counts"][key] >= old["request_counts"][key], "I7",
                 f"{batch['id']}: {key} fell: {old['request_counts']} -> "
                 f"{batch['request_counts']}")
        for key in ("endpoint", "input_file_id", "completion_window", "metadata", "created_at"):
            need(old[key] == batch[key], "I8", f"{batch['id']}: {key} changed: {batch}")
        if was in TERMINAL:
            need(old == batch, "I6", f"a finished batch changed: {old} -> {batch}")

    def read_result(self, file_id, data):
        digest = hashlib.sha256(data).digest()
        need(self.results.setdefault(file_id, digest) == digest, "I5",
             f"{file_id} has other bytes than before")

    def check_promises(self, api):
        """I8, over the API: everything acknowledged so far still holds."""
        for file_id, digest in self.files.items():
            got = api.call("GET", f"/v1/files/{file_id}/content")
            need(got.status == 200 and hashlib.sha256(got.body).digest() == digest, "I8",
                 f"the uploaded file {file_id} is lost or changed: HTTP {got.status}, "
                 f"{len(got.body)} bytes")
        for file_id in self.gone:
            got = api.call("GET", f"/v1/files/{file_id}")
            need(got.status == 404, "I8", f"the deleted file {file_id} is back: {got!r}")
        for batch_id in list(self.batches):
            batch = api.get(batch_id)  # saw() compares it with what it was
            need(batch_id not in self.cancels or batch["status"] in ("cancelling", "cancelled"),
                 "I8", f"the cancel of {batch_id} is lost: {batch['status']}")


def check_shape(batch):
    """The batch object on its own: every key, and timestamps that fit the status."""
    who = batch.get("id")
    need(set(batch) == BATCH_KEYS, "shape",
         f"{who}: missing {BATCH_KEYS - set(batch)}, unknown {set(batch) - BATCH_KEYS}")
    status, counts = batch["status"], batch["request_counts"]
    need(status in PATHS and batch["object"] == "batch", "shape", f"{who}: {batch}")
    must, may = PATHS[status]
    stamps = {k for k in STAMPS if batch[k] is not None}
    need(stamps - set(may) == {*must, "expires_at"}, "I6",
         f"{who} is {status}, but has the timestamps {sorted(stamps)}")
    in_order = [batch[k] for k in must]
    need(in_order == sorted(in_order), "I6", f"{who}: timestamps run backwards: {batch}")
    need(set(counts) == {"total", "completed", "failed"}, "shape", f"{who}: {counts}")
    need(counts["completed"] + counts["failed"] <= counts["total"] or counts["total"] == 0, "I2",
         f"{who}: {counts}")
    need(status in TERMINAL or not (batch["output_file_id"] or batch["error_file_id"]), "I6",
         f"{who} is {status} and shows result files already")
    need((batch["errors"] is not None) == (status == "failed"), "shape",
         f"{who} is {status}, errors: {batch['errors']}")


# ---------------------------------------------------------------- one finished batch

class Report:
    """What a finished batch holds, for a test's own questions."""

    def __init__(self, batch, lines, output, errors, leaders=()):
        self.batch = batch
        self.leaders = leaders or {}  # custom_id: the InputLine whose answer it got
        self.lines = lines  # InputLine, in order
        self.output = {x.custom_id: x for x in output}
        self.errors = {x.custom_id: x for x in errors}
        self.codes = collections.Counter(
            x.error["code"] if x.error else str(x.status) for x in errors)


def check_batch(api, batch, data, oracle=None, crashes=0, attempts=5, reused=()):
    """Everything that must hold of a batch in a terminal state; data: its input file.
    reused: custom_ids whose answers came from an earlier batch; they count in no usage, and
    the upstream saw them under that batch."""
    who, status = batch["id"], batch["status"]
    need(status in TERMINAL, "I10", f"{who} is {status}, not at its end")
    check_shape(batch)
    if status == "failed":
        need(batch["errors"]["object"] == "list" and batch["errors"]["data"], "shape",
             f"{who} failed without errors: {batch}")
        return Report(batch, [], [], [])
    lines = input_lines(data)
    if status == "cancelled" and batch["in_progress_at"] is None:
        # Cancelled while validating: nothing ran, but what an earlier batch had answered may have
        # been taken over already.
        need(reused or not batch["output_file_id"], "I1",
             f"{who}: output of a batch that never ran")
        if not batch["output_file_id"] and not batch["error_file_id"]:
            return Report(batch, lines, [], [])
    output = _results(api, batch, "output")
    errors = _results(api, batch, "error")
    _check_read(api.watch, who, output + errors)
    _check_once(who, lines, output, errors)
    _check_counts(batch, lines, output, errors)
    _check_verdicts(status, output, errors)
    own = [x for x in output if x.custom_id not in reused]
    leaders = _check_equal(who, lines, output + errors)
    _check_usage(batch, [x for x in own if x.custom_id not in leaders])
    if oracle:
        oracle.check(batch, [x for x in lines if x.custom_id not in reused], own, errors,
                     crashes, attempts, leaders)
        for line in lines:
            need(line.custom_id not in reused or not oracle.attempts(who, line.number), "I11",
                 f"{who}: line {line.number} was answered before and ran again")
    return Report(batch, lines, output, errors, leaders)


def _check_read(watch, who, results):
    """I5: what was read while the batch ran is what its files hold."""
    final = {x.custom_id: x.text.encode() for x in results}
    for name, line in watch.lines.get(who, {}).items():
        need(final.get(name) == line, "I5",
             f"{who}: the result of {name} was read as {line[:200]!r} and is "
             f"{final.get(name, b'gone')[:200]!r}")


def _results(api, batch, what):
    """Reads a result file and holds its file object to it (I4)."""
    file_id = batch[f"{what}_file_id"]
    if file_id is None:
        return []
    data = api.content(file_id)
    api.watch.read_result(file_id, data)
    file = api.want(200, "GET", f"/v1/files/{file_id}")
    need(file["bytes"] == len(data), "I4", f"{file} has {len(data)} bytes")
    need(file["purpose"] == "batch_output", "shape", f"purpose of a result file: {file}")
    check_ranges(api, file_id, data)
    return result_lines(data, what)


def check_ranges(api, file_id, data):
    """I4: parts of a file put together are the file."""
    half = len(data) // 2
    for first, last in ((0, 0), (half, len(data) - 1), (len(data) - 1, len(data) - 1)):
        got = api.call("GET", f"/v1/files/{file_id}/content",
                       headers={"Range": f"bytes={first}-{last}"})
        need(got.status == 206 and got.body == data[first:last + 1], "I4",
             f"range {first}-{last} of {file_id}: HTTP {got.status}, {len(got.body)} bytes")


def _check_once(who, lines, output, errors):
    places = {line.custom_id: i for i, line in enumerate(lines)}
    need(len(places) == len(lines), "I1", f"{who}: duplicate custom_ids were accepted")
    seen = collections.Counter(x.custom_id for x in output + errors)
    lost = [c for c in places if c not in seen]
    doubled = [c for c, n in seen.items() if n > 1]
    strange = [c for c in seen if c not in places]
    need(not lost, "I1", f"{who}: {len(lost)} lines without a result: {lost[:5]}")
    need(not doubled, "I1", f"{who}: {len(doubled)} lines with two results: {doubled[:5]}")
    need(not strange, "I1", f"{who}: results without a line: {strange[:5]}")
    for what, part in (("output", output), ("error", errors)):
        at = [places[x.custom_id] for x in part]
        need(at == sorted(at), "I3", f"{who}: the {what} file is not in input order")
    need(len({x.id for x in output + errors}) == len(lines), "I3", f"{who}: ids not unique")


def _check_counts(batch, lines, output, errors):
    want = {"total": len(lines), "completed": len(output), "failed": len(errors)}
    need(batch["request_counts"] == want, "I2",
         f"{batch['id']}: counts {batch['request_counts']}, files {want}")


def _check_verdicts(status, output, errors):
    for x in output:
        need(x.status is not None and 200 <= x.status < 300 and x.error is None, "I3",
             f"in the output file: {x.custom_id}: status {x.status}, error {x.error}")
    for x in errors:
        if x.error is None:
            need(x.status is not None and x.status >= 400, "I3",
                 f"in the error file: {x.custom_id}: status {x.status}")
        else:
            need(x.status is None and set(x.error) == {"code", "message"}
                 and x.error["code"] and x.error["message"], "I3",
                 f"in the error file: {x.custom_id}: {x.error}")
            ended = {"batch_expired": "expired", "batch_cancelled": "cancelled"}
            need(ended.get(x.error["code"], status) == status, "I3",
                 f"{x.custom_id}: {x.error['code']} in a batch that is {status}")


# Members of a body that change nothing of an answer.
REMARKS = ("user", "metadata", "store", "safety_identifier", "prompt_cache_key")


def asked(line):
    """What a line asks, as text: equal for lines that may share one call."""
    raw = members(line.body.decode())
    return [(k, "" if k in REMARKS else v) for k, v in raw.items()]


def _check_equal(who, lines, results):
    """Lines that got the answer of another line: {custom_id: that line}.  They have its
    request_id; all but id and custom_id is the same, byte for byte, and so is what they ask."""
    first, leaders = {}, {}
    by_id = {x.custom_id: x for x in results}
    for line in lines:
        mine = by_id[line.custom_id]
        if mine.request_id is None:
            continue
        other = first.setdefault(mine.request_id, line)
        if other is line:
            continue
        leader = by_id[other.custom_id]
        need(asked(line) == asked(other), "bytes",
             f"{who}: line {line.number} has the answer to line {other.number}, which asks "
             f"something else")
        need((mine.status, mine.body, mine.error) == (leader.status, leader.body, leader.error),
             "bytes", f"{who}: the answers of lines {other.number} and {line.number} differ")
        leaders[line.custom_id] = other
    return leaders


def _check_usage(batch, output):
    """usage is the sum over the answers, whatever names they use."""
    total = collections.Counter()
    told = False
    for x in output:
        body = x.json
        usage = body.get("usage") if isinstance(body, dict) else None
        if not isinstance(usage, dict):
            continue
        told = True
        given = usage.get("input_tokens", usage.get("prompt_tokens", 0))
        made = usage.get("output_tokens", usage.get("completion_tokens", 0))
        total["input_tokens"] += given
        total["output_tokens"] += made
        total["total_tokens"] += usage.get("total_tokens", given + made)
    got = batch["usage"]
    need((got is not None) == told, "I2", f"{batch['id']}: usage {got}, told by answers: {told}")
    for key in ("input_tokens", "output_tokens", "total_tokens") if told else ():
        need(got[key] == total[key], "I2", f"{batch['id']}: {key} {got[key]}, sum {total[key]}")


# ---------------------------------------------------------------- the upstream's side

# Answers that say "later" do not use up a line's attempts.
NOT_COUNTED = (429, 503, 529)


class Oracle:
    """What the sim saw: one JSON line a request."""

    def __init__(self, text):
        self.rows = [json.loads(x) for x in text.decode().splitlines() if x]
        self.by_line = collections.defaultdict(list)
        for row in self.rows:
            batch, _, rest = row["id"].partition("/")
            line = rest.partition("/")[0]
            if line.isdigit():
                self.by_line[batch, int(line)].append(row)

    def attempts(self, batch_id, number):
        return self.by_line.get((batch_id, number), [])

    def check(self, batch, lines, output, errors, crashes, attempts, leaders=()):
        who = batch["id"]
        results = {x.custom_id: x for x in output + errors}
        for line in lines:
            rows = self.attempts(who, line.number)
            if line.custom_id in leaders:
                need(not rows, "I11",
                     f"{who}: line {line.number} has another's answer and was sent: {rows[:4]}")
                continue
            self._check_executions(who, line, rows, attempts + crashes)
            self._check_bytes(who, line, rows, results[line.custom_id])

    @staticmethod
    def _check_executions(who, line, rows, most):
        """I11.  A request id ends in the number of failures that counted against the line, so
        the same id again is a failure that did not: a full or dead server, or a kept-alive
        connection that turned out to be closed.  Those are bounded too, but wider."""
        asked = [r for r in rows if r["status"] not in NOT_COUNTED]
        counted = [r for i, r in enumerate(asked)
                   if i + 1 == len(asked) or asked[i + 1]["id"] != r["id"]]
        need(len(counted) <= most and len(asked) <= 3 * most, "I11",
             f"{who}: line {line.number} reached the upstream {len(asked)} times, {len(counted)} "
             f"of them counted, at most {most} may: {asked[:8]}")

    @staticmethod
    def _check_bytes(who, line, rows, result):
        crc, size = f"{zlib.crc32(line.body):08x}", len(line.body)
        for row in rows:
            need((row["crc32"], row["bytes"]) == (crc, size), "bytes",
                 f"{who}: line {line.number} reached the upstream with other bytes: {row}")
        if result.status is None:
            return
        need(any(row["status"] == result.status for row in rows), "bytes",
             f"{who}: line {line.number} has status {result.status}, upstream said {rows}")
        # The sim's answers end their id with what request they are for.
        mine = result.json.get("id") if 200 <= result.status < 300 else None
        need(mine is None or mine.endswith(f"{crc}{size:08x}"), "bytes",
             f"{who}: line {line.number} has the answer of another request: {mine}")


# ---------------------------------------------------------------- a stopped server's disk

def check_log(text):
    """Nothing in a log or on stderr may speak of a broken program."""
    bad = re.search(r"(AddressSanitizer|ThreadSanitizer|LeakSanitizer|UndefinedBehavior|"
                    r"runtime error:|panic|check failed).*", text)
    need(not bad, "log", text[bad.start():bad.start() + 3000] if bad else "")


def read_ledger(path):
    """Rows of the ledger, from a copy (the original's WAL stays as it is): {table: [row]}."""
    with tempfile.TemporaryDirectory(prefix="batchd-chk-") as tmp:
        for name in os.listdir(path):
            if name.startswith("ledger.db"):
                shutil.copy(os.path.join(path, name), tmp)
        db = sqlite3.connect(os.path.join(tmp, "ledger.db"))
        try:
            db.row_factory = sqlite3.Row
            sound = db.execute("PRAGMA integrity_check").fetchall()
            need([tuple(x) for x in sound] == [("ok",)], "I9", f"integrity_check: {sound}")
            return {t: [dict(r) for r in db.execute(f"SELECT * FROM {t}")]
                    for t in ("files", "batches", "uploads", "parts", "outbox")}
        finally:
            db.close()


def read_version(path):
    """The number of the ledger's schema, of a stopped server."""
    with tempfile.TemporaryDirectory(prefix="batchd-chk-") as tmp:
        for name in os.listdir(path):
            if name.startswith("ledger.db"):
                shutil.copy(os.path.join(path, name), tmp)
        db = sqlite3.connect(os.path.join(tmp, "ledger.db"))
        try:
            return db.execute("PRAGMA user_version").fetchone()[0]
        finally:
            db.close()


def files_on_disk(path):
    """{id: path} of every published file."""
    got = {}
    for folder, _, names in os.walk(os.path.join(path, "files")):
        for name in names:
            need(name not in got, "I9", f"{name} is published twice")
            got[name] = os.path.join(folder, name)
    return got


def check_data_dir(path, watch=None):
    """I9 on a stopped server, and the watch's promises where the disk can answer them."""
    ledger = read_ledger(path)
    disk = files_on_disk(path)
    rows = {r["id"]: r for r in ledger["files"]}
    live = {r["id"]: r for r in ledger["batches"] if r["status"] not in TERMINAL}
    parts = {r["id"]: r for r in ledger["parts"]}
    for file_id, row in {**rows, **parts}.items():
        if row.get("deleted_at") or row.get("done"):
            continue
        need(file_id in disk, "I9", f"{file_id} has a row and no bytes")
        with open(disk[file_id], "rb") as f:
            data = f.read()
        need(len(data) == row["bytes"], "I4", f"{file_id}: {len(data)} bytes, row {row['bytes']}")
        need(hashlib.sha256(data).digest() == bytes(row["sha256"]), "I4",
             f"{file_id}: the bytes are not those of its sha256")
    check_uploads(ledger)
    check_batches(ledger, disk)
    check_outbox(ledger, watch)
    check_keys(path)
    _check_leftovers(path, disk, {**rows, **parts}, live)
    if watch:
        _check_rows(watch, ledger, rows)


def check_uploads(ledger):
    """I6, I9 and I13 of uploads and their parts."""
    files = {r["id"]: r for r in ledger["files"]}
    uploads = {r["id"]: r for r in ledger["uploads"]}
    for upload in uploads.values():
        who, status = upload["id"], upload["status"]
        need(status in ("pending", "completed", "cancelled", "expired"), "I6", f"{who}: {status}")
        need((status == "completed") == bool(upload["file"]), "I9",
             f"{who} is {status} and its file is {upload['file']}")
        need((status == "pending") == (upload["ended_at"] is None), "I6",
             f"{who} is {status} and ended at {upload['ended_at']}")
        file = files.get(upload["file"])  # not there: it was deleted
        need(not file or file["project"] == upload["project"], "I13",
             f"{who} of {upload['project']} became a file of {file and file['project']}")
    for part in ledger["parts"]:
        upload = uploads.get(part["upload"])
        need(upload or part["done"], "I9", f"{part['id']} is of no upload")
        if upload:
            need((upload["status"] == "pending") == (part["done"] == 0), "I9",
                 f"{part['id']} is done: {part['done']}, its upload is {upload['status']}")
            need(upload["project"] == part["project"], "I13",
                 f"{part['id']} is of {part['project']}, its upload of {upload['project']}")


def check_batches(ledger, disk):
    """I2, I6, I9 and I13 of the rows of batches and of their result files."""
    files = {r["id"]: r for r in ledger["files"]}
    owner = {}
    for row in ledger["batches"]:
        who, status = row["id"], row["status"]
        need(status in PATHS, "I6", f"{who} is {status}")
        must, may = PATHS[status]
        stamps = {k for k in STAMPS if row[k] is not None}
        need(stamps - set(may) == {*must, "expires_at"}, "I6",
             f"{who} is {status}, and its row has the timestamps {sorted(stamps)}")
        need([row[k] for k in must] == sorted(row[k] for k in must), "I6",
             f"{who}: timestamps run backwards: {row}")
        need(status in TERMINAL or not (row["output_file"] or row["error_file"]), "I6",
             f"{who} is {status} and has result files already")
        done = row["completed"] + row["failed"]
        need(status not in TERMINAL or done == row["total"] or row["in_progress_at"] is None,
             "I2", f"{who} is {status} with {done} of {row['total']} results")
        for key in ("input_file", "output_file", "error_file"):
            file = files.get(row[key])  # not there: it was deleted
            need(not file or row["input_missing"] or file["project"] == row["project"], "I13",
                 f"{who} is of {row['project']}, its {key} of {file and file['project']}")
        for key, count in (("output_file", "completed"), ("error_file", "failed")):
            need(bool(row[key]) <= bool(row[count]), "I2", f"{who}: {key} of no line")
            if not row[key]:
                continue
            need(owner.setdefault(row[key], who) == who, "I9",
                 f"{row[key]} is of {owner[row[key]]} and of {who}")
            if row[key] in files and row[key] in disk:
                with open(disk[row[key]], "rb") as f:
                    lines = f.read().count(b"\n")
                need(lines == row[count], "I2", f"{who}: {row[count]} {count}, {lines} lines")
    for file in files.values():
        need(file["purpose"] != "batch_output" or file["id"] in owner, "I9",
             f"{file['id']} is the result file of no batch")


def check_outbox(ledger, watch=None):
    """I16: each end is told to each receiver, under one id."""
    batches = {r["id"]: r for r in ledger["batches"]}
    events, receivers = {}, collections.defaultdict(list)
    for row in ledger["outbox"]:
        who = f"event {row['event']} for {row['destination']}"
        batch = batches.get(row["batch"])
        need(batch and row["type"] == "batch." + batch["status"] and
             batch["status"] in TERMINAL, "I16", f"{who}: {row['type']}, its batch is {batch}")
        need(row["project"] == batch["project"], "I13", f"{who} is of {row['project']}")
        need(events.setdefault(row["batch"], row["event"]) == row["event"], "I16",
             f"{row['batch']} ended twice: {who}, {events[row['batch']]}")
        need(row["destination"] not in receivers[row["batch"]], "I16", f"{who} is there twice")
        receivers[row["batch"]].append(row["destination"])
        need(row["settled_at"] is not None or not row["delivered"], "I16",
             f"{who} is delivered and not settled")
        need(not row["delivered"] or (row["tries"] > 0 and 200 <= row["status"] < 300), "I16",
             f"{who} is delivered after {row['tries']} tries with status {row['status']}")
        need(row["settled_at"] is None or row["delivered"] or row["error"] or row["status"],
             "I16", f"{who} was given up and nobody knows why")
    for row in batches.values():
        if watch and watch.hooks is not None and row["status"] in TERMINAL:
            need(sorted(receivers[row["id"]]) == sorted(watch.hooks), "I16",
                 f"{row['id']} is {row['status']}, {receivers[row['id']]} are told, and not "
                 f"{watch.hooks}")


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


_KEY = re.compile(rb"key [0-9a-f]{16} \S{1,64} [a-z0-9][a-z0-9_-]* [0-9a-f]{64} [1-9]\d* "
                  rb"(-|[1-9]\d*)\n")


def check_keys(path):
    """I8: a file of keys that does not check lets nobody in."""
    try:
        with open(os.path.join(path, "keys"), "rb") as f:
            text = f.read()
    except FileNotFoundError:
        return
    *lines, end = text.splitlines(keepends=True) or [b""]
    need(lines and lines[0] == b"batchd keys 1\n" and all(map(_KEY.fullmatch, lines[1:])), "I8",
         f"the keys are {text[:300]!r}")
    want = f"end {len(lines) - 1} {crc32c(b''.join(lines)):08x}\n".encode()
    need(end == want, "I8", f"the keys end in {end!r}, not in {want!r}")


def _check_leftovers(path, disk, rows, live):
    stray = [f for f in disk if f not in rows]
    need(not stray, "I9", f"published files without a row: {stray[:5]}")
    need(os.listdir(os.path.join(path, "tmp")) == [], "I9",
         f"left in tmp/: {os.listdir(os.path.join(path, 'tmp'))[:5]}")
    for name in os.listdir(os.path.join(path, "spool")):
        need(name.split(".")[0] in live, "I9", f"left in spool/ of a finished batch: {name}")


def _check_rows(watch, ledger, rows):
    for file_id in watch.files:
        need(file_id in rows, "I8", f"the acknowledged file {file_id} has no row")
    for file_id in watch.gone:
        need(file_id not in rows or rows[file_id].get("deleted_at"), "I8",
             f"the deleted file {file_id} is in the ledger")
    batches = {r["id"]: r for r in ledger["batches"]}
    for batch_id, seen in watch.batches.items():
        need(batch_id in batches, "I8", f"the acknowledged batch {batch_id} has no row")
        status = batches[batch_id]["status"]
        need(status in REACH[seen["status"]], "I6",
             f"{batch_id} was {seen['status']}, the ledger says {status}")
    for batch_id, asked in watch.asked.items():
        row = batches.get(batch_id)
        need(row and (row["priority"], bool(row["paused"])) ==
             (asked["priority"], asked["paused"]), "I8",
             f"{batch_id} was told to have {asked}, the ledger says {row}")
    for name, batch_id in watch.names.items():
        need(not name or batches.get(batch_id, {}).get("idempotency_key") == name, "I8",
             f"{batch_id} was made by the Idempotency-Key {name}")
    _check_upload_rows(watch, ledger)


def _check_upload_rows(watch, ledger):
    uploads = {r["id"]: r for r in ledger["uploads"]}
    parts = {r["id"]: r for r in ledger["parts"]}
    for upload_id, seen in watch.uploads.items():
        row = uploads.get(upload_id)
        need(row, "I8", f"the acknowledged upload {upload_id} has no row")
        need(seen["status"] in ("pending", row["status"]), "I6",
             f"{upload_id} was {seen['status']}, the ledger says {row['status']}")
        file = (seen.get("file") or {}).get("id")
        need(not file or file == row["file"], "I5", f"{upload_id} became {file}: {row}")
    for part_id, upload_id in watch.parts.items():
        row = uploads.get(upload_id)
        need(row and (part_id in parts or row["status"] != "pending"), "I8",
             f"the acknowledged part {part_id} of {upload_id} is gone")


def state_of(path):
    """A fingerprint of a data directory for I15: rows, published and temporary files, keys."""
    ledger = read_ledger(path)
    keys = os.path.join(path, "keys")
    rows = {t: sorted(r["id"] for r in ledger[t]) for t in ("files", "batches", "uploads", "parts")}
    wishes = sorted((r["id"], r["status"], r["completion_window"], r["priority"], r["paused"])
                    for r in ledger["batches"])
    return (rows, wishes, sorted((r["event"], r["destination"]) for r in ledger["outbox"]),
            sorted(files_on_disk(path)), sorted(os.listdir(os.path.join(path, "spool"))),
            sorted(os.listdir(os.path.join(path, "tmp"))),
            os.path.getsize(keys) if os.path.exists(keys) else None)


class Baseline:
    """I14: what a process holds, to be compared before and after work."""

    def __init__(self, pid):
        self.pid = pid
        self.fds, self.threads, self.rss = self._now()

    def _now(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as f:
            status = dict(x.split(":", 1) for x in f)
        return (len(os.listdir(f"/proc/{self.pid}/fd")), int(status["Threads"]),
                int(status["VmRSS"].split()[0]))

    def check(self, fds=0, rss=0.10, rss_floor_kb=8192, patience=10.0):
        """Back within `fds` descriptors and `rss` of the memory; idle connections may take
        a moment to go."""
        end = time.monotonic() + patience
        while True:
            now_fds, now_threads, now_rss = self._now()
            most = self.rss + max(self.rss * rss, rss_floor_kb)
            good = now_fds <= self.fds + fds and now_threads <= self.threads and now_rss <= most
            if good or time.monotonic() > end:
                break
            time.sleep(0.05)
        need(good, "I14", f"fds {self.fds} -> {now_fds}, threads {self.threads} -> "
             f"{now_threads}, RSS {self.rss} -> {now_rss} kB")


# ---------------------------------------------------------------- by hand

class _PlainApi:
    """Just enough of the API for the command line; tests use harness.Api."""

    def __init__(self, base):
        self.host = urllib.parse.urlsplit(base).netloc
        self.watch = Watch()

    def call(self, method, path, headers=None):
        conn = http.client.HTTPConnection(self.host, timeout=60)
        try:
            conn.request(method, path, headers=headers or {})
            got = conn.getresponse()
            got.body = got.read()
            return got
        finally:
            conn.close()

    def want(self, status, method, path):
        got = self.call(method, path)
        need(got.status == status, "api", f"{method} {path}: HTTP {got.status} {got.body[:300]!r}")
        return json.loads(got.body)

    def content(self, file_id):
        got = self.call("GET", f"/v1/files/{file_id}/content")
        need(got.status == 200, "api", f"content of {file_id}: HTTP {got.status}")
        return got.body


def main():
    args = argparse.ArgumentParser(description="Asserts batchd's invariants.")
    args.add_argument("--data-dir", help="of a stopped server")
    args.add_argument("--server", help="a running server's URL")
    args.add_argument("--batch", help="its batch, in a terminal state")
    args.add_argument("--input", help="the batch's input file")
    args.add_argument("--oracle", help="the sim's URL")
    args = args.parse_args()
    if not args.data_dir and not (args.server and args.batch and args.input):
        sys.exit("checker: give --data-dir, or --server, --batch and --input")
    try:
        if args.data_dir:
            check_data_dir(args.data_dir)
        if args.server:
            api = _PlainApi(args.server)
            with open(args.input, "rb") as f:
                data = f.read()
            oracle = Oracle(_PlainApi(args.oracle).call("GET", "/oracle").body) \
                if args.oracle else None
            check_batch(api, api.want(200, "GET", f"/v1/batches/{args.batch}"), data, oracle)
    except Broken as e:
        sys.exit(f"checker: {e}")
    print("checker: everything holds")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""The API against the real one's, row by row: objects, endpoints, status machine, input lines,
output lines and what breaks naive servers.  Each row of a table is one case, named by what it
proves; a test runs the rows of one table and tells every row that does not hold.
"""

import contextlib
import hashlib
import http.client
import json
import re
import socket
import time

import http_forms
from harness import CHAT, E2E, chat_line, chat_lines, until
from upstream import Upstream

BATCH_KEYS = ["id", "object", "endpoint", "model", "errors", "input_file_id", "completion_window",
              "status", "output_file_id", "error_file_id", "created_at", "in_progress_at",
              "expires_at", "finalizing_at", "completed_at", "failed_at", "expired_at",
              "cancelling_at", "cancelled_at", "request_counts", "usage", "metadata"]
FILE_KEYS = {"id", "object", "bytes", "created_at", "expires_at", "filename", "purpose", "status",
             "status_details"}
UPLOAD_KEYS = {"id", "object", "bytes", "created_at", "expires_at", "filename", "purpose",
               "status", "file"}
STAMPS = {"in_progress": "in_progress_at", "finalizing": "finalizing_at",
          "completed": "completed_at", "failed": "failed_at", "expired": "expired_at",
          "cancelling": "cancelling_at", "cancelled": "cancelled_at"}
USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12,
         "prompt_tokens_details": {"cached_tokens": 3},
         "completion_tokens_details": {"reasoning_tokens": 2}}
NEVER = "file-" + "0" * 32


class Table(E2E):
    """Rows are tried one after the other; all that fail are told."""

    cost = 3

    def setUp(self):
        super().setUp()
        self.rows, self.bad = 0, []

    @contextlib.contextmanager
    def row(self, name):
        self.rows += 1
        try:
            yield
        except AssertionError as e:
            self.bad.append(f"{name}: {str(e).strip()[:600]}")

    def tearDown(self):
        super().tearDown()
        if self.bad:
            self.fail(f"{len(self.bad)} of {self.rows} rows do not hold:\n" + "\n".join(self.bad))
        self.assertTrue(self.rows, "a table without rows proves nothing")

    def refused(self, got, status, code, param, words=None):
        self.assertEqual(got.status, status, got)
        self.assertEqual(set(got.json), {"error"})
        self.assertEqual(set(got.error), {"message", "type", "param", "code"})
        kind = "server_error" if status >= 500 else "invalid_request_error"
        self.assertEqual((got.error["type"], got.error["code"], got.error["param"]),
                         (kind, code, param), got)
        self.assertRegex(got.headers["x-request-id"], r"^req_[0-9a-f]{32}$")
        if words:
            self.assertIn(words, got.error["message"])


def answering(usage=USAGE, hold=None):
    """An answer with usage; bodies that hold the bytes `refuse` are refused with 400, those
    with `hold` wait for that event."""
    def answer(_path, body):
        if b"refuse" in body:
            return 400, {"Content-Type": "application/json", "x-request-id": "up-400"}, \
                b'{"error":{"message":"no","code":"bad"}}'
        if hold is not None and b"hold" in body:
            hold.wait()
        text = json.dumps({"object": "x", "usage": usage}).encode()
        return 200, {"Content-Type": "application/json", "x-request-id": "up-200"}, text
    return answer


class Objects(Table):
    """Section 1: every field of every object, in every state."""

    cost = 6

    def lives(self):
        """Batches led through every status: {name: [snapshots as they were seen]}."""
        upstream = Upstream(answering())
        self.addCleanup(upstream.close)
        upstream.gate.clear()
        self.daemon = self.serve(upstream.url, flags=["--max-inflight", "2"])
        api = self.daemon.api
        mixed = chat_line(0) + b"\n" + chat_line(1, "refuse") + b"\n" + chat_line(2) + b"\n"
        made = {
            "completed": api.create(api.upload(mixed), metadata={"a": "b"}),
            "failed": api.create(api.upload(b"{nope\n")),
            "expired": api.create(api.upload(chat_lines(6)), window="2s"),
            "cancelled": api.create(api.upload(chat_lines(6))),
        }
        lives = {name: [batch] for name, batch in made.items()}

        def note(name):
            batch = api.get(made[name]["id"])
            if batch != lives[name][-1]:
                lives[name].append(batch)
            return batch
        for name in ("completed", "expired", "cancelled"):
            api.wait(made[name]["id"], "in_progress")
            note(name)
        lives["cancelled"].append(api.cancel(made["cancelled"]["id"]))
        until("the window of 2 s to pass",
              lambda: note("expired")["status"] != "in_progress", timeout=10)
        upstream.gate.set()

        def all_ended():
            return all([note(name)["status"] == name for name in lives])
        until("all four ends", all_ended, timeout=20)
        return lives

    def test_every_field_of_a_batch_in_every_state(self):
        lives = self.lives()
        every = [b for life in lives.values() for b in life]
        seen = {b["status"] for b in every}
        of = {name: life[-1] for name, life in lives.items()}
        api = self.daemon.api

        def stamp(status):
            key = STAMPS[status]
            for name, life in lives.items():
                for b in life:
                    if b["status"] == status:
                        self.assertIsInstance(b[key], int, (name, b))
                values = [b[key] for b in life]
                kept = [v for v in values if v is not None]
                self.assertLessEqual(len(set(kept)), 1, f"{key} changed: {values}")
                if kept:
                    self.assertNotIn(None, values[values.index(kept[0]):], f"{key} was erased")
        rows = [
            ("all keys are always there, in the real order",
             lambda: [self.assertEqual(list(b), BATCH_KEYS) for b in every]),
            ("id is batch_ and hex",
             lambda: [self.assertRegex(b["id"], r"^batch_[0-9a-f]{32}$") for b in every]),
            ("object is batch",
             lambda: self.assertEqual({b["object"] for b in every}, {"batch"})),
            ("endpoint is the path asked for",
             lambda: self.assertEqual({b["endpoint"] for b in every}, {CHAT})),
            ("model is null while validating",
             lambda: [self.assertIsNone(b["model"]) for b in every
                      if b["status"] == "validating"]),
            ("model is the requests' after validation",
             lambda: [self.assertEqual(b["model"], "sim-model") for b in every
                      if b["status"] not in ("validating", "failed")]),
            ("errors is null but for failed",
             lambda: [self.assertIsNone(b["errors"]) for b in every if b["status"] != "failed"]),
            ("errors of failed is a list of code, message, param, line",
             lambda: self.assertEqual(
                 (of["failed"]["errors"]["object"], set(of["failed"]["errors"]["data"][0])),
                 ("list", {"code", "message", "param", "line"}))),
            ("input_file_id and completion_window are as sent",
             lambda: [self.assertEqual((b["input_file_id"], b["completion_window"]),
                                       (life[0]["input_file_id"], life[0]["completion_window"]))
                      for life in lives.values() for b in life]),
            ("every status was met",
             lambda: self.assertLessEqual({"validating", "in_progress", "cancelling", "completed",
                                           "failed", "expired", "cancelled"}, seen)),
            ("output_file_id and error_file_id are null before the end",
             lambda: [self.assertEqual((b["output_file_id"], b["error_file_id"]), (None, None))
                      for b in every if b["status"] not in
                      ("completed", "failed", "expired", "cancelled")]),
            ("output_file_id and error_file_id name files at the end",
             lambda: [self.assertRegex(of["completed"][k], r"^file-[0-9a-f]{32}$")
                      for k in ("output_file_id", "error_file_id")]),
            ("created_at is seconds of now",
             lambda: [self.assertLess(abs(b["created_at"] - time.time()), 120) for b in every]),
            ("expires_at is created_at plus the window, from creation on",
             lambda: [self.assertEqual(b["expires_at"] - b["created_at"],
                                       2 if life is lives["expired"] else 86400)
                      for life in lives.values() for b in life]),
            *[(f"{key} is set on entering {status} and never erased",
               lambda status=status: stamp(status)) for status, key in STAMPS.items()],
            ("timestamps of states never entered stay null",
             lambda: self.assertEqual(
                 [k for k in STAMPS.values() if of["failed"][k] is not None], ["failed_at"])),
            ("request_counts are zero while validating",
             lambda: [self.assertEqual(b["request_counts"],
                                       {"total": 0, "completed": 0, "failed": 0})
                      for b in every if b["status"] == "validating"]),
            ("request_counts has the total from in_progress on",
             lambda: [self.assertIn(b["request_counts"]["total"], (3, 6)) for b in every
                      if b["status"] == "in_progress"]),
            ("request_counts add up at the end",
             lambda: self.assertEqual(of["completed"]["request_counts"],
                                      {"total": 3, "completed": 2, "failed": 1})),
            ("usage is the sum over the answers",
             lambda: self.assertEqual(of["completed"]["usage"], {
                 "input_tokens": 14, "input_tokens_details": {"cached_tokens": 6},
                 "output_tokens": 10, "output_tokens_details": {"reasoning_tokens": 4},
                 "total_tokens": 24})),
            ("usage is null where nothing was answered",
             lambda: self.assertIsNone(of["failed"]["usage"])),
            ("metadata comes back as it was sent, null when none was",
             lambda: self.assertEqual((of["completed"]["metadata"], of["failed"]["metadata"]),
                                      ({"a": "b"}, None))),
            ("one object by retrieve and by list",
             lambda: self.assertEqual(
                 {b["id"]: b for b in api.want(200, "GET", "/v1/batches")["data"]},
                 {b["id"]: b for b in of.values()})),
        ]
        for name, prove in rows:
            with self.row(name):
                prove()

    def test_files_lists_and_deletions(self):
        daemon = self.serve([])
        api = daemon.api
        empty = api.want(200, "GET", "/v1/files")
        data = chat_lines(3)
        file_id = api.upload(data, "a b.jsonl")
        other = api.upload(data, "b.txt", "user_data")
        file = api.want(200, "GET", f"/v1/files/{file_id}")
        page = api.want(200, "GET", "/v1/files?limit=1")
        gone = api.delete(other)
        rows = [
            ("a file has all keys", lambda: self.assertEqual(set(file), FILE_KEYS)),
            ("id is file- and hex", lambda: self.assertRegex(file_id, r"^file-[0-9a-f]{32}$")),
            ("object, status and status_details",
             lambda: self.assertEqual((file["object"], file["status"], file["status_details"]),
                                      ("file", "processed", None))),
            ("bytes, filename, purpose",
             lambda: self.assertEqual((file["bytes"], file["filename"], file["purpose"]),
                                      (len(data), "a b.jsonl", "batch"))),
            ("a batch input expires after 30 days",
             lambda: self.assertEqual(file["expires_at"] - file["created_at"], 2592000)),
            ("an empty list has null ids",
             lambda: self.assertEqual(empty, {"object": "list", "data": [], "first_id": None,
                                              "last_id": None, "has_more": False})),
            ("a list has first_id, last_id, has_more",
             lambda: self.assertEqual(
                 (page["object"], page["first_id"], page["last_id"], page["has_more"]),
                 ("list", other, other, True))),
            ("a deletion tells id, object, deleted",
             lambda: self.assertEqual(gone, {"id": other, "object": "file", "deleted": True})),
        ]
        for name, prove in rows:
            with self.row(name):
                prove()


class Endpoints(Table):
    """Section 2: every call, its parameters, its refusals."""

    cost = 4

    def test_uploads_of_files(self):
        api = self.serve([]).api
        data = chat_lines(2)
        day = 86400
        for anchor, seconds, status in (("created_at", 3600, 200), ("created_at", 2592000, 200),
                                        ("created_at", 3599, 400), ("created_at", 2592001, 400),
                                        ("now", 3600, 400), (None, 3600, 400),
                                        ("created_at", None, 400), ("created_at", "1h", 400)):
            with self.row(f"expires_after {anchor} + {seconds} gives {status}"):
                got = api.upload_raw(data, fields=(("expires_after[anchor]", anchor),
                                                   ("expires_after[seconds]", seconds)))
                self.assertEqual(got.status, status, got)
                if status == 200:
                    self.assertEqual(got.json["expires_at"] - got.json["created_at"], seconds)
        for purpose in ("batch", "user_data", "assistants", "vision", "fine-tune", "evals"):
            with self.row(f"purpose {purpose} is stored and served"):
                got = api.upload_raw(data, purpose=purpose)
                self.assertEqual((got.status, got.json.get("purpose")), (200, purpose), got)
                self.assertEqual(api.content(got.json["id"]), data)
        for what, got in (
                ("purpose batch_output is the server's", api.upload_raw(data,
                                                                        purpose="batch_output")),
                ("an unknown purpose", api.upload_raw(data, purpose="nope")),
                ("no purpose", api.upload_raw(data, purpose=None)),
                ("no name ending in .jsonl", api.upload_raw(data, "a.csv")),
                ("an empty file", api.upload_raw(b"")),
                ("an empty form", api.call("POST", "/v1/files", b"", http_forms.HEAD)),
                ("a malformed form", api.call("POST", "/v1/files", b"--x\r\nno", http_forms.HEAD)),
                ("no form at all", api.call("POST", "/v1/files", {"purpose": "batch"}))):
            with self.row(f"refused with 400: {what}"):
                self.assertEqual(got.status, 400, got)
                self.assertEqual(got.error["type"], "invalid_request_error")
        with self.row("a default expiry only for batch"):
            self.assertIsNone(api.upload_raw(data, purpose="user_data").json["expires_at"])
        with self.row("an expiry of a day is kept by retrieve"):
            made = api.upload_raw(data, fields=(("expires_after[anchor]", "created_at"),
                                                ("expires_after[seconds]", day))).json
            self.assertEqual(api.want(200, "GET", f"/v1/files/{made['id']}"), made)

    def test_lists_of_files(self):
        api = self.serve([]).api
        ids = [api.upload(chat_lines(1), f"{i}.jsonl", "batch" if i % 2 else "user_data")
               for i in range(6)]

        def ids_of(query):
            return [x["id"] for x in api.want(200, "GET", "/v1/files" + query)["data"]]
        rows = [
            ("newest first by default", "", ids[::-1]),
            ("order=asc is oldest first", "?order=asc", ids),
            ("order=desc", "?order=desc", ids[::-1]),
            ("purpose filters", "?purpose=batch", ids[::-1][::2]),
            ("an unknown purpose has none", "?purpose=nope", []),
            ("limit cuts", "?limit=2", ids[:3:-1]),
            ("after goes on behind an id", f"?after={ids[3]}", ids[2::-1]),
            ("after and asc", f"?order=asc&after={ids[3]}", ids[4:]),
            ("limit with nothing is the default", "?limit=", ids[::-1]),
            ("the greatest limit", "?limit=10000", ids[::-1]),
        ]
        for name, query, want in rows:
            with self.row(name):
                self.assertEqual(ids_of(query), want)
        for query, param in (("limit=0", "limit"), ("limit=10001", "limit"), ("limit=x", "limit"),
                             ("order=up", "order"), (f"after={NEVER}", "after")):
            with self.row(f"refused: {query}"):
                got = api.call("GET", "/v1/files?" + query)
                self.assertEqual((got.status, got.error["param"]), (400, param), got)

    def test_one_file(self):
        api = self.serve([]).api
        data = chat_lines(5)
        file_id = api.upload(data, 'a "b" ü.jsonl'.replace('"', "%22"))
        content = f"/v1/files/{file_id}/content"
        whole = api.call("GET", content)
        etag = whole.headers["etag"]
        n = len(data)

        def ask(status, body, headers=None, method="GET"):
            got = api.call(method, content, headers=headers)
            self.assertEqual((got.status, got.body), (status, body))
            return got
        rows = [
            ("content is the raw bytes", lambda: ask(200, data)),
            ("content of a batch file is application/jsonl",
             lambda: self.assertEqual(whole.headers["content-type"], "application/jsonl")),
            ("content has a Content-Disposition with the name",
             lambda: self.assertRegex(whole.headers["content-disposition"],
                                      r"^attachment; filename=.*filename\*=UTF-8''")),
            ("ETag is strong", lambda: self.assertRegex(etag, r'^"[^"]+"$')),
            ("If-None-Match of it gives 304", lambda: ask(304, b"", {"If-None-Match": etag})),
            ("HEAD has the length and no bytes",
             lambda: self.assertEqual(ask(200, b"", None, "HEAD").headers["content-length"],
                                      str(n))),
            ("a range", lambda: self.assertEqual(
                ask(206, data[3:8], {"Range": "bytes=3-7"}).headers["content-range"],
                f"bytes 3-7/{n}")),
            ("a range to the end", lambda: ask(206, data[10:], {"Range": "bytes=10-"})),
            ("a suffix range", lambda: ask(206, data[-9:], {"Range": "bytes=-9"})),
            ("a range past the end is cut", lambda: ask(206, data[5:],
                                                        {"Range": f"bytes=5-{n + 99}"})),
            ("a range outside is 416", lambda: self.refused(
                api.call("GET", content, headers={"Range": f"bytes={n}-"}), 416,
                "range_not_satisfiable", None)),
            ("If-Range of another version gives all",
             lambda: ask(200, data, {"Range": "bytes=0-1", "If-Range": '"x"'})),
            ("If-Range of this version gives the part",
             lambda: ask(206, data[:2], {"Range": "bytes=0-1", "If-Range": etag})),
            ("retrieve of an unknown file", lambda: self.refused(
                api.call("GET", f"/v1/files/{NEVER}"), 404, None, "id",
                f"No such File object: {NEVER}")),
            ("content of an unknown file", lambda: self.refused(
                api.call("GET", f"/v1/files/{NEVER}/content"), 404, None, "id",
                f"No such File object: {NEVER}")),
            ("delete of an unknown file", lambda: self.refused(
                api.call("DELETE", f"/v1/files/{NEVER}"), 404, None, "id",
                f"No such File object: {NEVER}")),
        ]
        for name, prove in rows:
            with self.row(name):
                prove()
        with self.row("a deleted file is gone at once"):
            api.delete(file_id)
            self.assertEqual(api.call("GET", content).status, 404)

    def test_batches_are_made_or_refused(self):
        api = self.serve([]).api
        file_id = api.upload(chat_lines(1))
        good = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}

        def create(**over):
            body = {k: v for k, v in {**good, **over}.items() if v != "--"}
            return api.call("POST", "/v1/batches", body)
        missing, kind = "missing_required_parameter", "invalid_type"
        rows = [
            ("no input_file_id", {"input_file_id": "--"}, missing, "input_file_id"),
            ("no endpoint", {"endpoint": "--"}, missing, "endpoint"),
            ("no completion_window", {"completion_window": "--"}, missing, "completion_window"),
            ("input_file_id a number", {"input_file_id": 7}, kind, "input_file_id"),
            ("endpoint a list", {"endpoint": [CHAT]}, kind, "endpoint"),
            ("completion_window a number", {"completion_window": 24}, kind, "completion_window"),
            ("metadata a string", {"metadata": "x"}, kind, "metadata"),
            ("a metadata value that is no string", {"metadata": {"tags": ["a"]}}, kind,
             "metadata.tags"),
            ("an unknown endpoint", {"endpoint": "/v1/nothing"}, "invalid_value", "endpoint"),
            ("an unknown window", {"completion_window": "soon"}, "invalid_value",
             "completion_window"),
            ("output_expires_after a number", {"output_expires_after": 3600}, kind,
             "output_expires_after"),
            ("output_expires_after of another anchor",
             {"output_expires_after": {"anchor": "now", "seconds": 3600}}, "invalid_value",
             "output_expires_after.anchor"),
            ("output_expires_after too short",
             {"output_expires_after": {"anchor": "created_at", "seconds": 3599}},
             "integer_below_min_value", "output_expires_after.seconds"),
            ("output_expires_after too long",
             {"output_expires_after": {"anchor": "created_at", "seconds": 2592001}},
             "integer_above_max_value", "output_expires_after.seconds"),
        ]
        for name, over, code, param in rows:
            with self.row(f"refused: {name}"):
                self.refused(create(**over), 400, code, param)
        for name, metadata in (("17 pairs", {str(i): "v" for i in range(17)}),
                               ("a key of 65", {"k" * 65: "v"}),
                               ("a value of 513", {"k": "v" * 513})):
            with self.row(f"refused metadata: {name}"):
                got = create(metadata=metadata)
                self.assertEqual(got.status, 400, got)
                self.assertTrue(got.error["param"].startswith("metadata"), got)
        for name, metadata in (("16 pairs", {str(i): "v" for i in range(16)}),
                               ("a key of 64 characters", {"ü" * 64: "v"}),
                               ("a value of 512 characters", {"k": "ü" * 512}),
                               ("an empty one stays empty", {}), ("null", None)):
            with self.row(f"taken metadata: {name}"):
                got = create(metadata=metadata)
                self.assertEqual((got.status, got.json.get("metadata")), (200, metadata), got)
        for name, over in (("fields nobody knows", {"extra_body": {"a": [1]}, "priority_x": 1}),
                           ("output_expires_after null", {"output_expires_after": None}),
                           ("an hour", {"output_expires_after": {"anchor": "created_at",
                                                                 "seconds": 3600}})):
            with self.row(f"taken: {name}"):
                got = create(**over)
                self.assertEqual((got.status, got.json.get("status")), (200, "validating"), got)
        for endpoint in ("/v1/responses", "/v1/chat/completions", "/v1/embeddings",
                         "/v1/completions", "/v1/moderations", "/v1/images/generations",
                         "/v1/images/edits", "/v1/videos"):
            with self.row(f"endpoint {endpoint} may be named"):
                got = create(endpoint=endpoint)
                self.assertEqual((got.status, got.json.get("endpoint")), (200, endpoint), got)
        with self.row("an unknown endpoint is told which there are"):
            message = create(endpoint="/v1/nothing").error["message"]
            for endpoint in ("/v1/responses", "/v1/videos", "/v1/images/edits"):
                self.assertIn(endpoint, message)
        with self.row("an unknown file makes a batch that fails as invalid_request"):
            got = create(input_file_id=NEVER)
            self.assertEqual((got.status, got.json.get("status")), (200, "validating"), got)
            batch = api.wait(got.json["id"], "failed")
            error = batch["errors"]["data"][0]
            self.assertEqual((error["code"], error["param"], error["line"], error["message"]),
                             ("invalid_request", "file_id", None, f"Cannot find file {NEVER}."))
        with self.row("a body that is no JSON"):
            got = api.call("POST", "/v1/batches", b"{no", {"Content-Type": "application/json"})
            self.assertEqual(got.status, 400, got)
        with self.row("a file of another purpose"):
            other = api.upload(chat_lines(1), purpose="user_data")
            self.assertEqual(create(input_file_id=other).status, 400)

    def test_batches_are_read_listed_and_cancelled(self):
        upstream = Upstream(answering())
        self.addCleanup(upstream.close)
        upstream.gate.clear()
        api = self.serve(upstream.url).api
        file_id = api.upload(chat_lines(1))
        ids = [api.create(file_id)["id"] for _ in range(5)]

        def ids_of(query):
            return [x["id"] for x in api.want(200, "GET", "/v1/batches" + query)["data"]]
        never = "batch_" + "0" * 32
        for name, query, want in (("newest first", "", ids[::-1]), ("limit", "?limit=2",
                                                                    ids[:2:-1]),
                                  ("after", f"?after={ids[2]}", ids[1::-1]),
                                  ("limit with nothing", "?limit=&after=", ids[::-1]),
                                  ("the greatest limit", "?limit=100", ids[::-1])):
            with self.row(f"list: {name}"):
                self.assertEqual(ids_of(query), want)
        for query, param in (("limit=0", "limit"), ("limit=101", "limit"), ("limit=-1", "limit"),
                             (f"after={never}", "after"), ("after=x", "after")):
            with self.row(f"list refused: {query}"):
                got = api.call("GET", "/v1/batches?" + query)
                self.assertEqual((got.status, got.error["param"]), (400, param), got)
        with self.row("has_more only while there are more"):
            self.assertTrue(api.want(200, "GET", "/v1/batches?limit=4")["has_more"])
            self.assertFalse(api.want(200, "GET", "/v1/batches?limit=5")["has_more"])
        for what, method, path in (("retrieve", "GET", never),
                                   ("cancel", "POST", never + "/cancel")):
            with self.row(f"{what} of an unknown batch"):
                self.refused(api.call(method, "/v1/batches/" + path), 404, None, None,
                             f"No batch found with id '{never}'.")
        with self.row("cancel is 200 cancelling, and again as it is"):
            for batch_id in ids[:3]:
                api.wait(batch_id, "in_progress")
            self.assertEqual(api.cancel(ids[0])["status"], "cancelling")
            self.assertEqual(api.cancel(ids[0])["status"], "cancelling")
        upstream.gate.set()
        with self.row("cancel of a cancelled batch is 200 as it is"):
            api.wait(ids[0], "cancelled")
            self.assertEqual(api.cancel(ids[0])["status"], "cancelled")
        with self.row("cancel of a completed batch is 409 and not to be retried"):
            api.wait(ids[1], "completed")
            got = api.call("POST", f"/v1/batches/{ids[1]}/cancel")
            self.refused(got, 409, None, None, "Cannot cancel a batch with status 'completed'.")
            self.assertEqual(got.headers["x-should-retry"], "false")
        for batch_id in ids[2:]:
            api.wait(batch_id)

    def test_uploads_in_parts(self):
        api = self.serve([]).api
        data = chat_lines(40)
        ask = {"filename": "p.jsonl", "purpose": "batch", "bytes": len(data),
               "mime_type": "application/jsonl"}
        up = api.want(200, "POST", "/v1/uploads", ask)

        def part(upload_id, piece):
            return api.call("POST", f"/v1/uploads/{upload_id}/parts", *http_forms.part(piece))
        second, first = part(up["id"], data[1000:]), part(up["id"], data[:1000])
        order = [first.json["id"], second.json["id"]]
        path = f"/v1/uploads/{up['id']}"
        short = api.call("POST", path + "/complete", {"part_ids": order[:1]})
        wrong = api.call("POST", path + "/complete", {"part_ids": order, "md5": "0" * 32})
        done = api.call("POST", path + "/complete",
                        {"part_ids": order, "md5": hashlib.md5(data).hexdigest()})
        late = part(up["id"], b"x")
        other = api.want(200, "POST", "/v1/uploads", ask)
        cancelled = api.want(200, "POST", f"/v1/uploads/{other['id']}/cancel")
        rows = [
            ("an upload has all keys", lambda: self.assertEqual(set(up), UPLOAD_KEYS)),
            ("a new one is pending, without a file, for an hour",
             lambda: self.assertEqual(
                 (up["object"], up["status"], up["file"], up["expires_at"] - up["created_at"]),
                 ("upload", "pending", None, 3600))),
            ("a part tells id, object, created_at, upload_id",
             lambda: self.assertEqual((set(first.json), first.json["object"],
                                       first.json["upload_id"]),
                                      ({"id", "object", "created_at", "upload_id"},
                                       "upload.part", up["id"]))),
            ("complete with too few bytes is 400", lambda: self.assertEqual(short.status, 400)),
            ("complete with another md5 is 400", lambda: self.assertEqual(wrong.status, 400)),
            ("complete orders the parts by their ids",
             lambda: self.assertEqual(api.content(done.json["file"]["id"]), data)),
            ("a completed upload shows its file",
             lambda: self.assertEqual((done.json["status"], set(done.json["file"])),
                                      ("completed", FILE_KEYS))),
            ("the file is an ordinary one",
             lambda: self.assertEqual(
                 api.want(200, "GET", f"/v1/files/{done.json['file']['id']}"),
                 done.json["file"])),
            ("no parts after that", lambda: self.assertEqual(late.status, 400)),
            ("cancel is 200 cancelled", lambda: self.assertEqual(cancelled["status"],
                                                                 "cancelled")),
            ("no parts into a cancelled one",
             lambda: self.assertEqual(part(other["id"], b"x").status, 400)),
            ("complete of a cancelled one is 400",
             lambda: self.assertEqual(api.call(
                 "POST", f"/v1/uploads/{other['id']}/complete", {"part_ids": []}).status, 400)),
            ("an unknown upload is 404",
             lambda: self.assertEqual(part("upload_" + "0" * 32, b"x").status, 404)),
        ]
        for name, prove in rows:
            with self.row(name):
                prove()
        for name, over, code, param in (
                ("bytes a string", {"bytes": "1"}, "invalid_type", "bytes"),
                ("no filename", {"filename": None}, None, "filename"),
                ("no mime_type", {"mime_type": None}, None, "mime_type"),
                ("more than 8 GB", {"bytes": 9 << 30}, None, "bytes"),
                ("an unknown purpose", {"purpose": "nope"}, None, "purpose")):
            with self.row(f"refused: {name}"):
                body = {k: v for k, v in {**ask, **over}.items() if v is not None}
                got = api.call("POST", "/v1/uploads", body)
                self.assertIn(got.status, (400, 413), got)
                self.assertEqual(got.error["param"], param, got)
                if code:
                    self.assertEqual(got.error["code"], code, got)

    def test_models(self):
        sim = self.sim()
        api = self.serve(sim.url).api
        until("the upstream's models", lambda: api.want(200, "GET", "/v1/models")["data"])
        models = api.want(200, "GET", "/v1/models")
        name = models["data"][0]["id"]
        with self.row("the list is of models"):
            self.assertEqual((models["object"], set(models["data"][0]), models["data"][0]["object"]),
                             ("list", {"id", "object", "created", "owned_by"}, "model"))
        with self.row("one by its name"):
            self.assertEqual(api.want(200, "GET", f"/v1/models/{name}"), models["data"][0])
        with self.row("an unknown one is 404 model_not_found"):
            got = api.call("GET", "/v1/models/nope")
            self.assertEqual((got.status, got.error["code"], got.error["param"]),
                             (404, "model_not_found", "model"), got)

    def test_what_every_answer_carries(self):
        api = self.serve([]).api
        paths = (("GET", "/v1/files", 200), ("GET", "/v1/batches", 200), ("GET", "/v1/models", 200),
                 ("GET", "/v1/files/" + NEVER, 404), ("GET", "/v1/nothing", 404),
                 ("PUT", "/v1/batches", 405), ("DELETE", "/v1/batches", 405),
                 ("POST", "/v1/models", 405), ("GET", "/healthz", 200), ("GET", "/nothing", 404))
        for method, path, status in paths:
            with self.row(f"{method} {path}: x-request-id, openai-processing-ms, openai-version"):
                got = api.call(method, path)
                self.assertEqual(got.status, status, got)
                self.assertRegex(got.headers["x-request-id"], r"^req_[0-9a-f]{32}$")
                self.assertRegex(got.headers["openai-processing-ms"], r"^\d+$")
                self.assertEqual(got.headers["openai-version"], "2020-10-01")
                self.assertEqual(got.headers["x-content-type-options"], "nosniff")
                if status in (404, 405):
                    self.assertEqual(set(got.error), {"message", "type", "param", "code"})
                    self.assertEqual(got.headers["content-type"], "application/json")
                if status == 405:
                    self.assertIn("GET", got.headers["allow"])
        with self.row("request ids differ"):
            ids = {api.call("GET", "/v1/files").headers["x-request-id"] for _ in range(20)}
            self.assertEqual(len(ids), 20)


def line(**over):
    whole = {"custom_id": "bad", "method": "POST", "url": CHAT,
             "body": {"model": "sim-model", "messages": [{"role": "user", "content": "q"}]}}
    whole.update(over)
    return json.dumps({k: v for k, v in whole.items() if v != "--"}).encode()


def body(**over):
    return {"model": "sim-model", "messages": [], **over}


JSON_WORDS = "This line is not parseable as valid JSON."
LINES = [  # what it proves, the line, code, param, words of the message
    ("a line that is no JSON", b"{nope", "invalid_json_line", None, JSON_WORDS),
    ("a line that is no object", b'"x"', "invalid_json_line", None, JSON_WORDS),
    *[(f"{key} missing", line(**{key: "--"}), "missing_required_parameter", key,
       f"Missing required parameter: '{key}'.") for key in ("custom_id", "method", "url", "body")],
    ("custom_id of the wrong type", line(custom_id=7), "invalid_type", "custom_id", "custom_id"),
    ("method of the wrong type", line(method=None), "invalid_type", "method", "method"),
    ("url of the wrong type", line(url=[]), "invalid_type", "url", "url"),
    ("body of the wrong type", line(body="x"), "invalid_type", "body", "body"),
    ("a method that is not POST", line(method="GET"), "invalid_method", "method", "POST"),
    ("a url that is not the endpoint", line(url="/v1/embeddings"), "invalid_url", "url",
     "does not match the batch endpoint"),
    ("a custom_id seen before", chat_line(0), "duplicate_custom_id", "custom_id", "c-0"),
    ("body.stream true", line(body=body(stream=True)), "streaming_unsupported", "body.stream", None),
    ("a model that no upstream has", line(body=body(model="gpt-99")), "model_not_found",
     "body.model", "The provided model 'gpt-99' is not supported by the Batch API."),
]


class Lines(Table):
    """Sections 4 and 5: input lines judged, output lines written."""

    cost = 3

    def failed(self, api, data, **more):
        return api.wait(api.submit(data, **more), "failed")["errors"]["data"]

    def test_every_fault_of_a_line_has_its_code_line_and_param(self):
        sim = self.sim()
        api = self.serve(sim.url).api
        data = chat_line(0) + b"\r\n\n"
        for _, text, *_ in LINES:
            data += text + b"\n"
        errors = {e["line"]: e for e in self.failed(api, data)}
        for number, (name, _, code, param, words) in enumerate(LINES, 3):
            with self.row(name):
                e = errors.get(number)
                self.assertIsNotNone(e, f"line {number} was not told")
                self.assertEqual((e["code"], e["param"]), (code, param), e)
                self.assertIn(words or ".", e["message"])
        with self.row("good lines are not told"):
            self.assertEqual(len(errors), len(LINES))
        with self.row("nothing was sent"):
            self.assertEqual(sim.oracle().rows, [])

    def test_several_models_are_refused_unless_allowed(self):
        sim = self.sim("--model", "sim-model", "--model", "other")
        two = chat_line(0) + b"\n" + line(custom_id="b", body=body(model="other")) + b"\n"
        with self.row("several models: mismatched_model on the second"):
            got = self.failed(self.serve(sim.url).api, two)
            self.assertEqual([(e["line"], e["code"], e["param"]) for e in got],
                             [(2, "mismatched_model", "body.model")])

    def test_faults_of_the_file_as_a_whole(self):
        sim = self.sim()
        api = self.serve(sim.url, flags=["--max-lines", "10", "--max-inputs", "20",
                                         "--max-file-size", "100K"]).api
        many = b"".join(json.dumps({"custom_id": str(i), "method": "POST", "url": "/v1/embeddings",
                                    "body": {"model": "sim-model", "input": ["a"] * 3}}).encode()
                        + b"\n" for i in range(7))
        rows = [
            ("no request in the file", b"\n\n", {}, "empty_file"),
            ("too many lines", chat_lines(11), {}, "too_many_tasks"),
            ("too many embedding inputs", many, {"endpoint": "/v1/embeddings"},
             "too_many_embedding_inputs"),
        ]
        for name, data, more, code in rows:
            with self.row(name):
                got = self.failed(api, data, **more)
                self.assertEqual([(e["code"], e["param"], e["line"]) for e in got],
                                 [(code, None, None)])
        with self.row("a file over the size is refused at the upload"):
            self.assertEqual(api.upload_raw(b"x" * 200_000).status, 413)
        with self.row("exactly the most lines are taken"):
            batch = api.wait(api.submit(chat_lines(10)))
            self.assertEqual(batch["status"], "completed", batch["errors"])

    def test_lines_that_look_odd_and_are_good(self):
        upstream = Upstream(answering())
        self.addCleanup(upstream.close)
        api = self.serve(upstream.url).api
        bodies = [b'{"model":"sim-model","n":12345678901234567890,"x":1.10}',
                  b'{"model":"sim-model","s":"\\u00e9\\ud83d\\ude00"}',
                  b'{ "model" : "sim-model" , "a" : [ ] }',
                  '{"model":"sim-model","t":"日本語"}'.encode()]
        ids = ['"i"', '"' + "x" * 300 + '"', '"\\u00fc \\"q\\""', '"日本"']
        made = [b'{"custom_id":' + i.encode() + b',"method":"POST","url":"' + CHAT.encode()
                + b'","body":' + b + b"}" for i, b in zip(ids, bodies)]
        data = b"\xef\xbb\xbf" + made[0] + b"\r\n\r\n" + made[1] + b"\n  \n" + made[2] + b"\n" \
            + made[3]
        batch = api.wait(api.submit(data), "completed")
        out = api.output(batch).splitlines()
        with self.row("CRLF, blank lines, a BOM and a missing last newline are fine"):
            self.assertEqual(batch["request_counts"], {"total": 4, "completed": 4, "failed": 0})
        for name, i in (("numbers beyond 2^53 and 1.10", 0), ("escapes", 1), ("white space", 2),
                        ("UTF-8", 3)):
            with self.row(f"a body passes byte for byte: {name}"):
                self.assertIn(bodies[i], upstream.bodies())
        for i, raw in enumerate(ids):
            with self.row(f"custom_id comes back as written: {raw[:20]}"):
                self.assertIn(f'"custom_id":{raw},'.encode(), out[i])

    def test_output_and_error_lines(self):
        upstream = Upstream(answering())
        self.addCleanup(upstream.close)
        daemon = self.serve(upstream.url, flags=["--max-inflight", "1", "--cancel-timeout", "1s"])
        api = daemon.api
        data = chat_line(0) + b"\n" + chat_line(1, "refuse") + b"\n" + chat_line(2) + b"\n"
        batch = api.wait(api.submit(data), "completed")
        good = [json.loads(x) for x in api.output(batch).splitlines()]
        bad = [json.loads(x) for x in api.errors(batch).splitlines()]
        rows = [
            ("a success: id, custom_id, response, error null",
             lambda: self.assertEqual((list(good[0]), good[0]["error"]),
                                      (["id", "custom_id", "response", "error"], None))),
            ("ids are batch_req_ and 32 hex",
             lambda: [self.assertRegex(x["id"], r"^batch_req_[0-9a-f]{32}$") for x in good + bad]),
            ("a response has status_code, request_id, body",
             lambda: self.assertEqual((good[0]["response"]["status_code"],
                                       list(good[0]["response"])),
                                      (200, ["status_code", "request_id", "body"]))),
            ("a 4xx for good is in the error file with its response whole and error null",
             lambda: self.assertEqual(
                 (bad[0]["custom_id"], bad[0]["response"]["status_code"],
                  bad[0]["response"]["body"]["error"]["code"], bad[0]["error"]),
                 ("c-1", 400, "bad", None))),
            ("every line once over both files, in input order",
             lambda: self.assertEqual([x["custom_id"] for x in good], ["c-0", "c-2"])),
            ("both files end in a line feed",
             lambda: self.assertTrue(api.output(batch).endswith(b"}\n")
                                     and api.errors(batch).endswith(b"}\n"))),
        ]
        for name, prove in rows:
            with self.row(name):
                prove()
        with self.row("all failed: completed, output_file_id null"):
            one = api.wait(api.submit(chat_line(0, "refuse") + b"\n"), "completed")
            self.assertEqual((one["output_file_id"], one["request_counts"]["failed"]), (None, 1))
            self.assertIsNotNone(one["error_file_id"])
        with self.row("none failed: error_file_id null"):
            one = api.wait(api.submit(chat_lines(1)), "completed")
            self.assertIsNone(one["error_file_id"])
        upstream.gate.clear()
        with self.row("cancelled: lines not run have response null and batch_cancelled"):
            batch_id = api.submit(chat_lines(3))
            api.wait(batch_id, "in_progress")
            api.cancel(batch_id)
            lines = [json.loads(x) for x in api.errors(api.wait(batch_id, "cancelled",
                                                                timeout=15)).splitlines()]
            self.assertEqual({(x["response"], x["error"]["code"]) for x in lines},
                             {(None, "batch_cancelled")})
        with self.row("expired: lines not run have response null and batch_expired"):
            lines = [json.loads(x) for x in api.errors(api.wait(api.submit(
                chat_lines(3), window="1s"), "expired", timeout=15)).splitlines()]
            self.assertEqual({(x["response"], x["error"]["code"]) for x in lines},
                             {(None, "batch_expired")})


class Naive(Table):
    """Section 7: what breaks naive servers."""

    cost = 3

    def test_odd_requests_are_taken(self):
        daemon = self.serve([])
        api = daemon.api
        data = chat_lines(2)

        def form(disposition, chunked=False, mark=b"x"):
            text = (b"--" + mark + b'\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n'
                    b"batch\r\n--" + mark + b"\r\nContent-Disposition: form-data; " + disposition
                    + b"\r\n\r\n" + data + b"\r\n--" + mark + b"--\r\n")
            head = {"Content-Type": f'multipart/form-data; boundary="{mark.decode()}"'}
            return api.call("POST", "/v1/files",
                            (text[i:i + 77] for i in range(0, len(text), 77)) if chunked else text,
                            head)
        for name, got in (
                ("a chunked form", form(b'name="file"; filename="a.jsonl"', True)),
                ("filename without quotes", form(b"name=file; filename=a.jsonl")),
                ("filename* as RFC 8187", form(b"name=\"file\"; filename*=UTF-8''a%20b.jsonl")),
                ("a boundary of odd characters", form(b'name="file"; filename="a.jsonl"',
                                                      mark=b"-'()+_,./:=?"))):
            with self.row(f"upload: {name}"):
                self.assertEqual((got.status, got.json.get("bytes")), (200, len(data)), got)
        flood = {f"X-Stainless-{i}": "v" for i in range(30)}
        file_id = api.upload(data)
        good = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
        for name, method, path, sent, head in (
                ("a flood of X-Stainless headers", "GET", "/v1/files", None, flood),
                ("OpenAI-Organization and OpenAI-Project", "GET", "/v1/batches", None,
                 {"OpenAI-Organization": "o", "OpenAI-Project": "p", "OpenAI-Beta": "x"}),
                ("?limit= with nothing", "GET", "/v1/batches?limit=", None, {}),
                ("a trailing slash", "GET", "/v1/files/", None, {}),
                ("unknown extra body keys", "POST", "/v1/batches", {**good, "x": {"y": [1]}}, {}),
                ("an Idempotency-Key", "POST", "/v1/batches", good, {"Idempotency-Key": "k-1"})):
            with self.row(name):
                got = api.call(method, path, sent, head)
                self.assertEqual(got.status, 200, got)
        with self.row("the same Idempotency-Key gives the first batch again"):
            again = [api.call("POST", "/v1/batches", good, {"Idempotency-Key": "k-2"}).json["id"]
                     for _ in range(3)]
            self.assertEqual(len(set(again)), 1)
        with self.row("empty metadata stays empty"):
            got = api.call("POST", "/v1/batches", {**good, "metadata": {}})
            self.assertEqual(got.json["metadata"], {})
        with self.row("a file uploaded under the name of another is another"):
            self.assertNotEqual(api.upload(data), file_id)
        with self.row("Expect: 100-continue, as curl sends it above 1 MB"):
            self.assertEqual(self.expect_continue(api, chat_lines(9000)), 200)
        with self.row("duplicate keys of a line are told"):
            bad = b'{"custom_id":"a","custom_id":"b","method":"POST","url":"' + CHAT.encode() \
                + b'","body":{"model":"m"}}\n'
            batch = api.wait(api.submit(bad), "failed")
            self.assertEqual(batch["errors"]["data"][0]["code"], "invalid_json_line")
        with self.row("keep-alive serves a hundred calls on one connection"):
            conn = http.client.HTTPConnection(api.host, timeout=20)
            for _ in range(100):
                conn.request("GET", "/v1/batches?limit=1")
                got = conn.getresponse()
                got.read()
                self.assertEqual(got.status, 200)
            conn.close()

    @staticmethod
    def expect_continue(api, data):
        host, port = api.host.split(":")
        text = (b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x\r\n'
                b'Content-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
                + data + b"\r\n--x--\r\n")
        with socket.create_connection((host, int(port)), timeout=20) as s:
            s.sendall(b"POST /v1/files HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                      b"Content-Type: multipart/form-data; boundary=x\r\n"
                      b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(text))
            first = s.recv(4096)
            if not re.match(rb"HTTP/1.1 100 ", first):
                return first[:40]
            s.sendall(text)
            rest = first.split(b"\r\n\r\n", 1)[1]
            while not rest.startswith(b"HTTP/1.1 "):
                rest += s.recv(4096)
            return int(rest.split(b" ", 2)[1])

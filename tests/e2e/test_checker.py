# SPDX-License-Identifier: Apache-2.0
"""The checker itself: every violation it is there for is made once, and must be caught."""

import copy
import hashlib
import json
import os
import shutil
import sqlite3
import zlib

import checker
from harness import E2E, Refused, chat_line, chat_lines

N = 6


class FakeAnswer:
    def __init__(self, status, body):
        self.status, self.body = status, body


class FakeApi:
    """A server as it should be: two files in memory."""

    def __init__(self, files):
        self.files = files
        self.watch = checker.Watch()

    def content(self, file_id):
        return self.files[file_id]

    def want(self, _status, _method, path):
        file_id = path.rsplit("/", 1)[1]
        return {"bytes": len(self.files[file_id]), "purpose": "batch_output"}

    def call(self, _method, path, headers=None):
        data = self.files[path.split("/")[3]]
        first, last = headers["Range"][6:].split("-")
        return FakeAnswer(206, data[int(first):int(last) + 1])


def result(i, body):
    crc = f"{zlib.crc32(body):08x}{len(body):08x}"
    return {"id": "batch_req_" + f"{i:032x}", "custom_id": f"c-{i}",
            "response": {"status_code": 200, "request_id": f"r{i}", "body": {
                "id": "chatcmpl-" + crc,
                "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}},
            "error": None}


class World:
    """A finished batch of six lines, the last of which failed; all of it true."""

    def __init__(self):
        self.data = chat_lines(N)
        bodies = [x.body for x in checker.input_lines(self.data)]
        self.output = [result(i, bodies[i]) for i in range(N - 1)]
        self.errors = [{"id": "batch_req_" + "f" * 32, "custom_id": f"c-{N - 1}",
                        "response": None, "error": {"code": "x", "message": "y"}}]
        self.batch = dict.fromkeys(checker.BATCH_KEYS)
        self.batch.update(
            id="batch_1", object="batch", endpoint="/v1/chat/completions", status="completed",
            input_file_id="file-i", output_file_id="file-o", error_file_id="file-e",
            completion_window="24h", created_at=1, in_progress_at=2, finalizing_at=3,
            completed_at=4, expires_at=86401,
            request_counts={"total": N, "completed": N - 1, "failed": 1},
            usage={"input_tokens": 15, "input_tokens_details": {"cached_tokens": 0},
                   "output_tokens": 20, "output_tokens_details": {"reasoning_tokens": 0},
                   "total_tokens": 35})
        self.rows = [{"id": f"batch_1/{i + 1}/0", "crc32": f"{zlib.crc32(b):08x}",
                      "bytes": len(b), "status": 200 if i < N - 1 else 0}
                     for i, b in enumerate(bodies)]
        self.end = b"\n"
        self.read = None  # a line that was read while it ran

    def check(self):
        def text(lines):
            return b"\n".join(json.dumps(x).encode() for x in lines) + self.end
        api = FakeApi({"file-o": text(self.output), "file-e": text(self.errors)})
        if self.read:
            api.watch.read_lines("batch_1", self.read + b"\n")
        oracle = checker.Oracle(b"\n".join(json.dumps(r).encode() for r in self.rows))
        return checker.check_batch(api, self.batch, self.data, oracle)


class Equals(World):
    """The same, but its second line asks the same as the first and has its answer."""

    def __init__(self):
        super().__init__()
        lines = self.data.split(b"\n")
        lines[0], lines[1] = (chat_line(i, "the same", user=f"me {i}") for i in range(2))
        self.data = b"\n".join(lines)
        body = checker.input_lines(self.data)[0].body
        self.output[0] = result(0, body)
        self.output[1]["response"] = copy.deepcopy(self.output[0]["response"])
        self.rows[0].update(crc32=f"{zlib.crc32(body):08x}", bytes=len(body))
        self.rows.pop(1)
        self.batch["usage"].update(input_tokens=12, output_tokens=16, total_tokens=28)


def swap(x):
    x[0], x[1] = x[1], x[0]


# Each breaks one thing of a World, and the invariant that must say so.
BREAKS = [
    ("a line is lost", "I1", lambda w: w.output.pop()),
    ("a line is doubled", "I1", lambda w: w.output.insert(0, w.output[0])),
    ("a line is in both files", "I1",
     lambda w: w.errors.insert(0, {**w.errors[0], "custom_id": "c-0"})),
    ("a line of nowhere", "I1", lambda w: w.output[2].update(custom_id="stranger")),
    ("two lines changed places", "I3", lambda w: swap(w.output)),
    ("two lines changed answers", "bytes",
     lambda w: (w.output[0].update(response=w.output[1]["response"]))),
    ("two lines with one id", "I3", lambda w: w.output[0].update(id=w.output[1]["id"])),
    ("an id of another form", "I3", lambda w: w.output[0].update(id="batch_req_1")),
    ("a member too many", "I3", lambda w: w.output[0].update(more=1)),
    ("no line feed at the end", "I3", lambda w: setattr(w, "end", b"")),
    ("an error among the answers", "I3",
     lambda w: w.output[0]["response"].update(status_code=500)),
    ("an answer among the errors", "I3",
     lambda w: w.errors[0].update(response=w.output[0]["response"], error=None)),
    ("expired in a completed batch", "I3",
     lambda w: w.errors[0]["error"].update(code="batch_expired")),
    ("a count too many", "I2", lambda w: w.batch["request_counts"].update(failed=0)),
    ("usage that is no sum", "I2", lambda w: w.batch["usage"].update(total_tokens=36)),
    ("usage that is missing", "I2", lambda w: w.batch.update(usage=None)),
    ("a missing key", "shape", lambda w: w.batch.pop("model")),
    ("a timestamp of another state", "I6", lambda w: w.batch.update(failed_at=4)),
    ("timestamps that run backwards", "I6", lambda w: w.batch.update(completed_at=2)),
    ("not at its end", "I10", lambda w: w.batch.update(status="in_progress")),
    ("too many executions", "I11",
     lambda w: w.rows.extend({**w.rows[0], "id": f"batch_1/1/{i}"} for i in range(1, 6))),
    ("the same one again and again", "I11", lambda w: w.rows.extend(w.rows[:1] * 15)),
    ("other bytes upstream", "bytes", lambda w: w.rows[0].update(crc32="00000000")),
    ("a status nobody sent", "bytes", lambda w: w.rows[0].update(status=500)),
]


BREAKS_OF_EQUALS = [
    ("usage that counts a call twice", "I2",
     lambda w: w.batch["usage"].update(input_tokens=15, output_tokens=20, total_tokens=35)),
    ("the answer to another question", "bytes",
     lambda w: setattr(w, "data", w.data.replace(b"the same", b"the Same", 1))),
    ("another answer", "bytes",
     lambda w: w.output[1]["response"]["body"].update(more=1)),
    ("a call for a line that has another's answer", "I11",
     lambda w: w.rows.append({**w.rows[0], "id": "batch_1/2/0"})),
]


class CheckerOfBatches(E2E):
    def test_a_true_world_passes(self):
        report = World().check()
        self.assertEqual((len(report.output), len(report.errors)), (N - 1, 1))
        self.assertEqual(report.leaders, {})

    def test_lines_that_ask_the_same_may_have_one_answer(self):
        report = Equals().check()
        self.assertEqual([(k, v.number) for k, v in report.leaders.items()], [("c-1", 1)])

    def test_every_break_is_caught_by_its_invariant(self):
        for kind, (what, invariant, broken) in [(World, x) for x in BREAKS] + \
                [(Equals, x) for x in BREAKS_OF_EQUALS]:
            with self.subTest(what):
                world = kind()
                broken(world)
                with self.assertRaises(checker.Broken) as got:
                    world.check()
                self.assertTrue(str(got.exception).startswith(invariant + ":"), got.exception)

    def test_members_keeps_every_byte(self):
        text = ' {"a" : 1.10 ,"b":[ 1,  2e5 ],"c":"\\u0041\\"}","d":{"a":{}}} '
        self.assertEqual(checker.members(text), {
            "a": "1.10", "b": "[ 1,  2e5 ]", "c": '"\\u0041\\"}"', "d": '{"a":{}}'})
        for bad in ("[1]", '{"a":1} x', '{"a" 1}', '{"a":}', "{"):
            with self.subTest(bad), self.assertRaises((ValueError, IndexError)):
                checker.members(bad)

    def test_logs_that_speak_of_a_broken_program(self):
        checker.check_log("ts=1 lvl=warn ev=upstream_down\n")
        for bad in ("==1==ERROR: AddressSanitizer: heap-use-after-free", "panic: src/x.c:1",
                    "x.c:3:4: runtime error: signed integer overflow",
                    "WARNING: ThreadSanitizer: data race"):
            with self.subTest(bad), self.assertRaises(checker.Broken):
                checker.check_log("fine\n" + bad + "\n")


class CheckerOfTime(E2E):
    """The watch over what the API says one time and another."""

    def seen(self, **changes):
        watch = checker.Watch()
        batch = World().batch
        batch.update(status="in_progress", finalizing_at=None, completed_at=None,
                     output_file_id=None, error_file_id=None, usage=None)
        watch.saw(copy.deepcopy(batch))
        later = copy.deepcopy(batch)
        later.update(changes)
        watch.saw(later)

    def broken(self, invariant, **changes):
        with self.assertRaises(checker.Broken) as got:
            self.seen(**changes)
        self.assertTrue(str(got.exception).startswith(invariant + ":"), got.exception)

    def test_what_may_happen(self):
        self.seen()
        self.seen(request_counts={"total": N, "completed": N - 1, "failed": 1})
        self.seen(status="finalizing", finalizing_at=3)

    def test_what_may_not(self):
        self.broken("I7", request_counts={"total": N, "completed": N - 2, "failed": 1})
        self.broken("I6", status="validating", in_progress_at=None)
        self.broken("I6", in_progress_at=3)
        self.broken("I8", metadata={"k": "v"})
        self.broken("I6", output_file_id="file-o")

    def test_results_and_uploads_may_not_change(self):
        watch = checker.Watch()
        watch.read_result("file-o", b"1")
        watch.read_result("file-o", b"1")
        with self.assertRaises(checker.Broken):
            watch.read_result("file-o", b"2")
        with self.assertRaises(checker.Broken):
            watch.uploaded({"id": "file-u", "bytes": 3}, b"four")


class CheckerOfAnswers(E2E):
    """The watch over what is told of uploads, edits, names and results that are read early."""

    def upload(self, **changes):
        return {"object": "upload", "id": "upload_1", "status": "pending", "bytes": 6,
                "filename": "f", "purpose": "batch", "created_at": 1, "expires_at": 2,
                **changes}

    def broken(self, invariant, call, *args):
        with self.assertRaises(checker.Broken) as got:
            call(*args)
        self.assertTrue(str(got.exception).startswith(invariant + ":"), got.exception)

    def test_an_upload_ends_once_and_keeps_what_it_was_made_for(self):
        watch = checker.Watch()
        watch.told(self.upload(), {})
        watch.told(self.upload(status="completed", file={"id": "file-1"}), {})
        self.broken("I6", watch.told, self.upload(status="cancelled"), {})
        self.broken("I5", watch.told, self.upload(status="completed", file={"id": "file-2"}), {})
        self.broken("I8", watch.told, self.upload(status="completed", bytes=7,
                                                  file={"id": "file-1"}), {})

    def test_a_delete_that_nobody_answered_may_have_been_done(self):
        for raised, promised in ((None, False), (OSError(), False),
                                 (Refused("delete", FakeAnswer(503, b"")), False),
                                 (Refused("delete", FakeAnswer(409, b"")), True)):
            watch = checker.Watch()
            watch.uploaded({"id": "file-1", "bytes": 1}, b"x")
            try:
                with watch.deleting("file-1"):
                    if raised:
                        raise raised
            except (OSError, Refused) as e:
                self.assertIs(e, raised)
            self.assertEqual(("file-1" in watch.files, "file-1" in watch.gone),
                             (promised, not raised))

    def test_a_name_of_a_request_makes_one_batch(self):
        watch = checker.Watch()
        for _ in range(2):
            watch.told({"object": "batch", "id": "batch_1"}, {"Idempotency-Key": "k"})
        watch.told({"object": "batch", "id": "batch_2"}, {})
        watch.told({"object": "batch", "id": "batch_3"}, None)
        self.broken("I8", watch.told, {"object": "batch", "id": "batch_2"},
                    {"Idempotency-Key": "k"})

    def test_results_that_were_read_early_stay_so(self):
        watch, line = checker.Watch(), json.dumps(result(0, b"x")).encode()
        other = json.dumps({**result(0, b"x"), "id": "batch_req_" + "e" * 32}).encode()
        watch.read_lines("batch_1", line + b"\n" + line[:20])  # the last one is half
        watch.read_lines("batch_1", line + b"\n")
        self.broken("I5", watch.read_lines, "batch_1", other + b"\n")
        world = World()
        world.check()
        for early in (other, json.dumps(result(9, b"x")).encode()):
            world = World()
            world.read = early
            self.broken("I5", world.check)


KEYS = b"batchd keys 1\nkey f1e93b2c5654c8f5 alice default " + b"a" * 64 + b" 1700000000 -\n"


class CheckerOfDisks(E2E):
    """A data directory made by hand with the tables of the ledger, then broken."""

    ROWS = {
        "files": [
            {"id": "file-1aa", "purpose": "batch"},
            {"id": "file-2aa", "purpose": "batch_output"}],
        "batches": [
            {"id": "batch_1", "status": "completed", "input_file": "file-1aa",
             "output_file": "file-2aa", "total": 1, "completed": 1, "created_at": 1,
             "in_progress_at": 2, "finalizing_at": 3, "completed_at": 4, "expires_at": 9},
            {"id": "batch_2", "status": "in_progress", "input_file": "file-1aa", "total": 3,
             "created_at": 1, "in_progress_at": 2, "expires_at": 9, "priority": 5, "paused": 1,
             "idempotency_key": "k"}],
        "uploads": [{"id": "upload_1", "status": "pending", "ended_at": None},
                    {"id": "upload_2", "status": "cancelled", "ended_at": 5}],
        "parts": [{"id": "part_1aa", "upload": "upload_1", "done": 0},
                  {"id": "part_2aa", "upload": "upload_1", "done": 0},
                  {"id": "part_3aa", "upload": "upload_2", "done": 1}],
        "outbox": [{"event": "evt_1", "batch": "batch_1", "type": "batch.completed",
                    "destination": name, "settled_at": 5, "delivered": name == "a", "tries": 1,
                    "status": 200 if name == "a" else 500} for name in "ab"],
    }
    COLUMNS = {
        "files": {"project": "p", "bytes": 6, "deleted_at": None},
        "batches": {"project": "p", "input_missing": 0, "completed": 0, "failed": 0,
                    "output_file": None, "error_file": None, "priority": 0, "paused": 0,
                    "completion_window": "24h", "idempotency_key": None,
                    **dict.fromkeys(checker.STAMPS)},
        "uploads": {"project": "p", "file": None},
        "parts": {"project": "p", "bytes": 6},
        "outbox": {"project": "p", "error": None},
    }

    def directory(self):
        path = os.path.join(self.dir, "data")
        for folder in ("files/aa", "tmp", "spool"):
            os.makedirs(os.path.join(path, folder), exist_ok=True)
        digest = hashlib.sha256(b"hello\n").digest()
        db = sqlite3.connect(os.path.join(path, "ledger.db"))
        for table, rows in self.ROWS.items():
            hashed = {"sha256": digest} if table in ("files", "parts") else {}
            rows = [{**self.COLUMNS[table], **hashed, **row} for row in rows]
            names = sorted(rows[0])
            db.execute(f"CREATE TABLE {table} ({', '.join(names)})")
            for row in rows:
                db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(names))})",
                           [row[x] for x in names])
                if hashed and not row.get("done"):
                    self.put(path, "files/aa/" + row["id"], b"hello\n")
        db.commit()
        db.close()
        self.put(path, "keys", KEYS + b"end 1 %08x\n" % checker.crc32c(KEYS))
        return path

    def change(self, path, sql):
        db = sqlite3.connect(os.path.join(path, "ledger.db"))
        db.execute(sql)
        db.commit()
        db.close()

    def put(self, path, name, data=b"HELLO\n"):
        os.makedirs(os.path.dirname(os.path.join(path, name)), exist_ok=True)
        with open(os.path.join(path, name), "wb") as f:
            f.write(data)

    def test_a_sound_directory_passes(self):
        path = self.directory()
        self.put(path, "spool/batch_2.000001.log")
        watch = checker.Watch()
        watch.hooks = ["a", "b"]
        watch.asked["batch_2"] = {"priority": 5, "paused": True, "reused": 0}
        watch.names["k"] = "batch_2"
        watch.parts["part_1aa"] = "upload_1"
        watch.uploads["upload_2"] = {"status": "cancelled"}
        checker.check_data_dir(path, watch)

    def test_crc32c_is_that_of_castagnoli(self):
        self.assertEqual(checker.crc32c(b"123456789"), 0xe3069283)  # RFC 3720 B.4's polynomial

    def test_every_break_is_caught(self):
        def sql(text):
            return lambda path: self.change(path, text)

        def put(name, data=b"HELLO\n"):
            return lambda path: self.put(path, name, data)

        def gone(name):
            return lambda path: os.unlink(os.path.join(path, name))
        breaks = [
            ("I9", gone("files/aa/file-1aa")),
            ("I4", put("files/aa/file-1aa")),
            ("I4", sql("UPDATE files SET bytes = 7")),
            ("I9", put("files/bb/file-2bb")),
            ("I9", put("tmp/half")),
            ("I9", put("spool/batch_1.000001.log")),
            ("I9", put("spool/batch_3.idx")),
            ("I9", gone("files/aa/part_2aa")),
            ("I4", put("files/aa/part_1aa")),
            ("I9", put("files/aa/part_4aa")),
            ("I9", sql("UPDATE uploads SET status = 'completed', ended_at = 5")),
            ("I9", sql("UPDATE uploads SET file = 'file-1aa' WHERE id = 'upload_1'")),
            ("I6", sql("UPDATE uploads SET status = 'lost'")),
            ("I6", sql("UPDATE uploads SET ended_at = 5 WHERE id = 'upload_1'")),
            ("I13", sql("UPDATE uploads SET project = 'q' WHERE id = 'upload_1'")),
            ("I13", sql("UPDATE uploads SET status = 'completed', ended_at = 5, project = 'q', "
                        "file = 'file-1aa' WHERE id = 'upload_2'")),
            ("I9", sql("DELETE FROM uploads WHERE id = 'upload_1'")),
            ("I9", sql("UPDATE parts SET done = 1 WHERE id = 'part_1aa'")),
            ("I9", sql("UPDATE parts SET upload = 'upload_2' WHERE id = 'part_1aa'")),
            ("I6", sql("UPDATE batches SET status = 'lost'")),
            ("I6", sql("UPDATE batches SET completed_at = NULL WHERE id = 'batch_1'")),
            ("I6", sql("UPDATE batches SET completed_at = 2 WHERE id = 'batch_1'")),
            ("I6", sql("UPDATE batches SET error_file = 'file-2aa' WHERE id = 'batch_2'")),
            ("I2", sql("UPDATE batches SET total = 2 WHERE id = 'batch_1'")),
            ("I2", sql("UPDATE batches SET total = 2, completed = 2 WHERE id = 'batch_1'")),
            ("I2", sql("UPDATE batches SET error_file = 'file-1aa' WHERE id = 'batch_1'")),
            ("I13", sql("UPDATE batches SET project = 'q' WHERE id = 'batch_2'")),
            ("I9", sql("UPDATE batches SET output_file = NULL WHERE id = 'batch_1'")),
            ("I9", sql("UPDATE batches SET status = 'completed', finalizing_at = 3, total = 1, "
                       "completed_at = 4, output_file = 'file-2aa', completed = 1 "
                       "WHERE id = 'batch_2'")),
            ("I16", sql("UPDATE outbox SET type = 'batch.failed'")),
            ("I16", sql("UPDATE outbox SET batch = 'batch_2', type = 'batch.in_progress'")),
            ("I13", sql("UPDATE outbox SET project = 'q'")),
            ("I16", sql("UPDATE outbox SET event = 'evt_2' WHERE destination = 'b'")),
            ("I16", sql("UPDATE outbox SET destination = 'a'")),
            ("I16", sql("UPDATE outbox SET settled_at = NULL")),
            ("I16", sql("UPDATE outbox SET tries = 0")),
            ("I16", sql("UPDATE outbox SET status = 0 WHERE destination = 'b'")),
            ("I8", put("keys", KEYS)),
            ("I8", put("keys", KEYS.replace(b"alice", b"malice") + b"end 1 89abcdef\n")),
            ("I8", put("keys", b"")),
        ]
        for i, (invariant, broken) in enumerate(breaks):
            path = self.directory()
            broken(path)
            with self.subTest(i), self.assertRaises(checker.Broken) as got:
                checker.check_data_dir(path)
            with self.subTest(i):
                self.assertTrue(str(got.exception).startswith(invariant + ":"), got.exception)
            shutil.rmtree(path)

    def test_promises_that_the_ledger_breaks(self):
        path = self.directory()
        for broken in (lambda w: w.uploaded({"id": "file-9", "bytes": 1}, b"x"),
                       lambda w: w.deleted("file-1aa"),
                       lambda w: w.batches.update(batch_9={"status": "completed"}),
                       lambda w: w.batches.update(batch_2={"status": "completed"}),
                       lambda w: w.asked.update(batch_2={"priority": 5, "paused": False}),
                       lambda w: w.asked.update(batch_2={"priority": 4, "paused": True}),
                       lambda w: w.names.update(k="batch_1"),
                       lambda w: w.names.update(k="batch_9"),
                       lambda w: w.parts.update(part_9="upload_1"),
                       lambda w: w.parts.update(part_9="upload_9"),
                       lambda w: w.uploads.update(upload_9={"status": "pending"}),
                       lambda w: w.uploads.update(upload_2={"status": "completed"}),
                       lambda w: setattr(w, "hooks", ["a"]),
                       lambda w: setattr(w, "hooks", ["a", "b", "c"])):
            watch = checker.Watch()
            broken(watch)
            with self.assertRaises(checker.Broken):
                checker.check_data_dir(path, watch)

    def test_what_a_refused_request_left_shows(self):
        before = checker.state_of(self.directory())
        shutil.rmtree(os.path.join(self.dir, "data"))
        for broken in (lambda p: self.change(p, "DELETE FROM uploads"),
                       lambda p: self.change(p, "UPDATE parts SET id = 'part_9'"),
                       lambda p: self.change(p, "UPDATE batches SET priority = 1"),
                       lambda p: self.change(p, "DELETE FROM outbox"),
                       lambda p: self.put(p, "tmp/half"), lambda p: self.put(p, "keys")):
            path = self.directory()
            broken(path)
            self.assertNotEqual(checker.state_of(path), before)
            shutil.rmtree(path)

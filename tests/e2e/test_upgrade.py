# SPDX-License-Identifier: Apache-2.0
"""Data directories of earlier and of later programs: what the earlier ones left is taken over, also
when that is cut off; what a later one made is refused in words that help, and left as it is.

The directories of earlier schemas are in tests/fixtures, made by the programs of that time."""

import base64
import glob
import json
import os
import random
import shutil
import sqlite3
import struct
import tempfile
import time

import checker
from harness import E2E, TOP, Proc, chat_lines, until

FIXTURES = os.path.join(TOP, "tests", "fixtures")
OURS = 3  # the schema of this program
STAMPS = {"files": ("created_at", "expires_at", "deleted_at"), "batches": checker.STAMPS}


class Fixture:
    """A data directory of an earlier program, moved through time so that it is of just now."""

    def __init__(self, name):
        with open(os.path.join(FIXTURES, name + ".json"), encoding="utf-8") as f:
            self.made = json.load(f)
        self.age = int(time.time()) - self.made["made_at"]

    def lay_out(self, where):
        os.makedirs(os.path.join(where, "tmp"), mode=0o700)
        os.makedirs(os.path.join(where, "spool"), mode=0o700)
        for name, stored in self.made["disk"].items():
            path = os.path.join(where, name)
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            with open(path, "wb") as f:
                f.write(stored["text"].encode() if "text" in stored
                        else base64.b64decode(stored["base64"]))
        self.ledger(where)

    def ledger(self, where):
        """Killed: the rows are in the write-ahead log, as a killed program leaves them."""
        with tempfile.TemporaryDirectory(prefix="batchd-fix-") as tmp:
            db = sqlite3.connect(os.path.join(tmp, "ledger.db"), isolation_level=None)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA wal_autocheckpoint = 0")
            db.executescript("\n".join(self.made["ledger"]))
            for key, value in self.made["pragmas"].items():
                db.execute(f"PRAGMA {key} = {value}")
            for table, columns in STAMPS.items():
                for column in columns:
                    db.execute(f"UPDATE {table} SET {column} = {column} + {self.age}")
            db.execute(f"UPDATE meta SET value = value + {self.age} WHERE key = 'clock_floor'")
            if self.made["end"] == "stopped":
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            for name in os.listdir(tmp):
                if not name.endswith("-shm"):
                    shutil.copy(os.path.join(tmp, name), where)
            db.close()

    def promises(self, watch):
        told = self.made["promises"]
        watch.files = {k: bytes.fromhex(v) for k, v in told["files"].items()}
        watch.gone, watch.cancels = set(told["gone"]), set(told["cancels"])
        for batch_id, batch in told["batches"].items():
            moved = {k: v + self.age if k in STAMPS["batches"] and v is not None else v
                     for k, v in batch.items()}
            watch.batches[batch_id] = moved

    def content(self, file_id):
        return self.made["disk"][f"files/{file_id[-2:]}/{file_id}"]["text"].encode()


class Earlier(E2E):
    cost = 6
    limit = 120

    def taken_over(self, name, rng, kills):
        """The new program starts on it, is killed so often while it takes over, and ends all."""
        fixture = Fixture(name)
        data = self.path(f"{name}-{rng.random()}")
        fixture.lay_out(data)
        self.assertLess(checker.read_version(data), OURS)
        sim = self.sim()
        daemon = self.serve(sim.url, data=data, start=False)
        fixture.promises(daemon.watch)
        for _ in range(kills):
            proc = Proc(daemon.argv(), self.dir, daemon.name, daemon.env)
            time.sleep(rng.uniform(0, 0.06))
            proc.kill9()
        daemon.start()
        for batch_id in fixture.made["promises"]["batches"]:
            batch = daemon.api.wait(batch_id, timeout=60, patient=True)
            files = {batch["input_file_id"], batch["output_file_id"], batch["error_file_id"]}
            if not files & daemon.watch.gone:
                checker.check_batch(daemon.api, batch, fixture.content(batch["input_file_id"]))
        daemon.watch.check_promises(daemon.api)
        lines = chat_lines(5)
        self.finished(daemon, daemon.api.submit(lines, priority=3), lines)  # what is new works, too
        daemon.stop()
        self.assertEqual(checker.read_version(data), OURS)
        sim.proc.kill9()

    def test_a_directory_of_each_earlier_schema_is_taken_over(self):
        made = {json.load(open(x, encoding="utf-8"))["pragmas"]["user_version"]
                for x in glob.glob(os.path.join(FIXTURES, "*.json"))}
        self.assertEqual(made, set(range(1, OURS)), "a schema without a directory of its time")
        for path in sorted(glob.glob(os.path.join(FIXTURES, "*.json"))):
            name = os.path.basename(path)[:-5]
            with self.subTest(name):
                self.taken_over(name, random.Random(1), 0)

    def test_kills_while_it_is_taken_over_cost_nothing(self):
        for seed in range(4):
            rng = random.Random(seed)
            for name in ("schema-1-killed", "schema-1-stopped", "schema-2-killed", "schema-2-stopped"):
                with self.subTest(f"{name}, seed {seed}"):
                    self.taken_over(name, rng, rng.randint(1, 5))


class Later(E2E):
    cost = 3

    def stopped(self):
        daemon = self.serve(self.sim().url)
        daemon.stop()
        return daemon

    def refused(self, daemon, *says):
        """It does not start, says why in one sentence, and changes nothing.  (That the last end
        was in order it forgets, and SQLite makes an empty log: the later program does not mind.)"""
        before = self.bytes_of(daemon.data)
        proc = Proc(daemon.argv(), self.dir, "refused", daemon.env)
        self.procs.append(proc)
        status = proc.wait(20)
        self.assertIn(status, (73, 74, 78), proc.errors())
        text = self.one_sentence(proc.errors().splitlines()[-1])
        for word in says:
            self.assertIn(word, text)
        after = self.bytes_of(daemon.data)
        self.assertEqual([x for x in before | after if before.get(x) != after.get(x)], [])

    @staticmethod
    def bytes_of(data):
        got = {}
        for folder, _, names in os.walk(data):
            for name in names:
                if name not in ("LOCK", "CLEAN", "ledger.db-wal"):
                    with open(os.path.join(folder, name), "rb") as f:
                        got[os.path.join(folder, name)] = f.read()
        return got

    def test_a_directory_of_a_later_format_is_refused(self):
        daemon = self.stopped()
        path = os.path.join(daemon.data, "FORMAT")
        for text in ("batchd data 2\n", "batchd data 4000000000\n"):
            with open(path, "w", encoding="ascii") as f:
                f.write(text)
            self.refused(daemon, "format " + text.split()[2], "up to 1", "newer")
        with open(path, "w", encoding="ascii") as f:
            f.write("batchd data 1\n")

    def test_a_ledger_of_a_later_schema_is_refused(self):
        daemon = self.stopped()
        path = os.path.join(daemon.data, "ledger.db")
        for version in (OURS + 1, 999999, OURS):
            db = sqlite3.connect(path)
            db.execute(f"PRAGMA user_version = {version}")
            db.commit()
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            db.close()
            if version > OURS:
                self.refused(daemon, "ledger.db", f"schema {version}", f"up to {OURS}", "newer")

    def test_keys_of_a_later_format_let_nobody_in(self):
        daemon = self.stopped()
        path = os.path.join(daemon.data, "keys")
        with open(path, "w", encoding="ascii") as f:
            f.write("batchd keys 2\nend 0 00000000\n")
        os.chmod(path, 0o600)
        daemon.start()
        got = daemon.api.call("GET", "/v1/files", headers={"Authorization": "Bearer sk-any"})
        self.assertEqual(got.status, 503, got)
        self.assertRegex(daemon.proc.errors(), "ev=keys.unusable .*one of a newer batchd")
        daemon.stop()
        os.unlink(path)

    def half_done(self):
        """A batch at work whose server was killed."""
        sim = self.sim("--latency", "20ms")
        daemon = self.serve(sim.url, flags=["--max-inflight", "4"])
        data = chat_lines(200)
        batch_id = daemon.api.submit(data)
        while daemon.api.get(batch_id)["request_counts"]["completed"] < 20:
            time.sleep(0.005)
        daemon.kill9()
        return sim, daemon, data, batch_id

    def test_an_index_of_a_later_format_is_made_again(self):
        sim, daemon, data, batch_id = self.half_done()
        path = os.path.join(daemon.data, "spool", batch_id + ".idx")
        with open(path, "r+b") as f:
            head = bytearray(f.read(96))
            head[8:12] = struct.pack("<I", 2)
            head[92:96] = struct.pack("<I", crc32c(head[:92]))
            f.seek(0)
            f.write(head)
        daemon.start()
        daemon.api.wait(batch_id, "completed", timeout=60, patient=True)
        self.finished(daemon, batch_id, data, sim)

    def test_a_results_log_of_a_later_format_is_refused_and_left_alone(self):
        sim, daemon, data, batch_id = self.half_done()
        path = os.path.join(daemon.data, "spool", batch_id + ".000001.log")
        with open(path, "rb") as f:
            old = f.read()
        head = bytearray(old[:96])
        head[8:12] = struct.pack("<I", 2)
        head[92:96] = struct.pack("<I", crc32c(head[:92]))
        with open(path, "wb") as f:
            f.write(bytes(head) + old[96:])
        changed = bytes(head) + old[96:]
        daemon.start()
        until("a word about it", lambda: "batch.stuck" in daemon.proc.errors())
        text = daemon.proc.errors()
        for word in ("format 2, this program reads format 1", "the program that began it"):
            self.assertIn(word, text)
        other = chat_lines(3)  # the others go on
        self.finished(daemon, daemon.api.submit(other), other)
        daemon.stop()
        with open(path, "r+b") as f:
            self.assertEqual(f.read(), changed)
            f.seek(0)
            f.write(old)
        daemon.start()
        daemon.api.wait(batch_id, "completed", timeout=60, patient=True)
        self.finished(daemon, batch_id, data, sim)


def crc32c(data):
    """CRC-32C (RFC 3720), bit by bit."""
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff

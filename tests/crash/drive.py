# SPDX-License-Identifier: Apache-2.0
"""drive: leads a server that is being recorded through everything that it promises anything of:
uploads, parts, batches that complete, fail, expire and are cancelled, deletions; edits, keys,
results that are read, webhooks; with restarts, kills and failing syncs between.  Each scenario
is one trace."""

import fcntl
import hashlib
import http.client
import json
import os
import re
import struct
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "e2e"))
sys.dont_write_bytecode = True

import http_forms  # noqa: E402  (after the path)
from harness import BATCHD, CHAT, Refused, TookTooLong, chat_line, chat_lines, until  # noqa: E402
from receiver import Told  # noqa: E402

RECORDER = os.environ.get("BATCHD_RECORDER", os.path.join(
    os.path.dirname(os.path.realpath(BATCHD)), "tests", "crash", "recorder.so"))
EVENT = struct.Struct("<IIQQIIQ")  # trace.h
MAGIC = 0x65636174


def kinds():
    with open(os.path.join(HERE, "trace.h"), encoding="utf-8") as f:
        return re.findall(r"^ +X\((\w+), \"", f.read(), re.M)


KINDS = kinds()


def events(trace):
    """(kind, path) of each event."""
    with open(trace, "rb") as f:
        while head := f.read(EVENT.size):
            _, kind, _, _, path_n, to_n, data_n = EVENT.unpack(head)
            path = f.read(path_n).decode()
            f.seek(to_n + data_n, os.SEEK_CUR)
            yield KINDS[kind], path


class Scenario(Told):
    """One recorded run; `trace` is where it goes."""

    limit = 120
    trace = None
    env = {}  # of the first life, for the recorder

    def recorded(self, upstreams, **more):
        self.data = os.path.join(os.path.realpath(self.dir), "data")
        self.recorder = {"LD_PRELOAD": RECORDER, "TRACE_ROOT": self.data, "TRACE_LOG": self.trace}
        return self.serve(upstreams, data=self.data, env={**self.recorder, **self.env}, **more)

    def learnt(self, text):
        """What the explorer cannot read off the answers."""
        data = text.encode()
        with open(self.trace, "ab") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            f.write(EVENT.pack(MAGIC, KINDS.index("LEARNT"), 0, 0, 0, 0, len(data)) + data)

    def hooks(self):
        """Two receivers: one that takes everything, one that takes nothing."""
        good, bad = self.receiver(), self.receiver(lambda _n: 500)
        self.learnt("webhooks 2")
        return self.section("good", good.url, 1) + self.section("bad", bad.url, 2)

    def upload(self, api, data, **more):
        # The name tells the sum of what was sent, for whoever reads the answers later.
        return api.upload(data, hashlib.sha256(data).hexdigest() + ".jsonl", **more)

    def upload_in_parts(self, api, data, end):
        up = api.want(200, "POST", "/v1/uploads", {
            "filename": hashlib.sha256(data).hexdigest() + ".jsonl", "purpose": "batch",
            "bytes": len(data), "mime_type": "application/jsonl"})
        path, half = f"/v1/uploads/{up['id']}", len(data) // 2
        ids = [api.want(200, "POST", path + "/parts", *http_forms.part(x))["id"]
               for x in (data[:half], data[half:])]
        if end:
            api.want(200, "POST", f"{path}/{end}",
                     {"part_ids": ids} if end == "complete" else None)

    def post(self, api, batch_id, what="", body=None):
        return api.want(200, "POST", f"/v1/batches/{batch_id}{what}", body)

    def progress(self, api, batch_id):
        return api.want(200, "GET", f"/v1/batches/{batch_id}/progress")

    def everything(self, api):
        """All that the real API promises, in a few seconds."""
        good, bad = chat_lines(12), chat_line(0) + b"\n{nope\n"
        mixed = b"".join(chat_line(i) + b"\n" for i in range(8))
        batches = [api.create(self.upload(api, good))["id"],
                   api.create(self.upload(api, bad))["id"],
                   api.create(self.upload(api, chat_lines(40)), window="1s", paused=True)["id"],
                   api.create(self.upload(api, chat_lines(400)))["id"]]
        spare = self.upload(api, mixed, purpose="batch")
        self.upload_in_parts(api, chat_lines(5), "complete")
        self.upload_in_parts(api, chat_lines(6), "cancel")
        self.upload_in_parts(api, chat_lines(7), None)
        api.delete(spare)
        for _ in range(10):
            api.want(200, "GET", "/v1/batches")
            time.sleep(0.01)
        api.cancel(batches[3])
        for batch_id in batches:
            api.wait(batch_id, timeout=30)
        api.want(200, "GET", "/v1/files")
        done = api.get(batches[0])
        api.output(done)
        api.errors(api.get(batches[3]))
        api.delete(done["output_file_id"])


class Plain(Scenario):
    def runTest(self):
        sim = self.sim("--latency", "5ms-30ms", "--fault", "400=0.1")
        daemon = self.recorded(sim.url, flags=["--max-inflight", "8"], config=self.hooks())
        self.everything(daemon.api)
        daemon.stop()


class Born(Scenario):
    """A directory is made, bytes come and go, and it is started on again; few events, so each
    is tried often."""

    def runTest(self):
        sim = self.sim()
        daemon = self.recorded(sim.url)
        self.upload_in_parts(daemon.api, chat_lines(2), "cancel")
        daemon.stop()
        daemon.start()
        daemon.stop()


class Gone(Scenario):
    """Bytes are deleted and forgotten, the process is killed, and the next life, which knows
    nothing of them, ends in good order."""

    def runTest(self):
        sim = self.sim()
        daemon = self.recorded(sim.url)
        self.upload_in_parts(daemon.api, chat_lines(2), "cancel")
        daemon.restart()
        until("the parts to be forgotten", lambda: "ev=files.reaped" in daemon.proc.errors())
        daemon.restart()
        daemon.stop()


class Killed(Scenario):
    """Two lives end by SIGKILL in the middle of work, the third goes on to the end."""

    def runTest(self):
        sim = self.sim("--latency", "5ms-30ms")
        daemon = self.recorded(sim.url, flags=["--max-inflight", "4"])
        batch_id = daemon.api.create(self.upload(daemon.api, chat_lines(80)))["id"]
        for done in (10, 40):
            while daemon.api.get(batch_id)["request_counts"]["completed"] < done:
                time.sleep(0.005)
            daemon.restart()
            daemon.api.wait(batch_id, ("in_progress", "finalizing", "completed"), patient=True)
        daemon.api.wait(batch_id, "completed", timeout=30, patient=True)
        daemon.stop()


class Stopped(Scenario):
    """A stop in good order, and a life after it."""

    def runTest(self):
        sim = self.sim("--latency", "5ms-30ms")
        daemon = self.recorded(sim.url, flags=["--max-inflight", "8"])
        daemon.api.submit(chat_lines(40))
        daemon.stop()
        daemon.start()
        self.everything(daemon.api)
        daemon.stop()


class Asked(Scenario):
    """What is not of the real API: edits, names of requests, batches that go on from others,
    requests in the body; in two lives."""

    def runTest(self):
        sim = self.sim("--latency", "2ms-10ms", "--fault", "400=0.2")
        daemon = self.recorded(sim.url, flags=["--max-inflight", "4"], config=self.hooks())
        api = daemon.api
        waits = api.create(self.upload(api, chat_lines(30)), paused=True, priority=7)["id"]
        sample = api.create(self.upload(api, chat_lines(30)), sample=3)["id"]
        self.progress(api, waits)
        for edit in ({"priority": -3}, {"completion_window": "2h"}, {"priority": 9}):
            api.watch.changed(self.post(api, waits, body=edit))
            self.progress(api, waits)
        for what in ("/resume", "/pause"):
            self.post(api, waits, what)
            self.progress(api, waits)
        first = self.named(api, "first")
        assert self.named(api, "first") == first
        inline = self.post_inline(api)
        for batch_id in (first, inline):
            api.wait(batch_id, "completed")
        again = self.post(api, first, "/retry", {})["id"]
        on = api.create(api.get(first)["input_file_id"], continue_from=first)["id"]
        for batch_id in (again, on):
            api.wait(batch_id, "completed")
            self.progress(api, batch_id)
        daemon.restart()
        api = daemon.api
        api.wait(waits, "in_progress", patient=True)
        assert self.progress(api, waits)["paused"] and self.named(api, "first") == first
        for batch_id in (sample, waits):
            self.post(api, batch_id, "/resume")
            api.wait(batch_id, "completed", timeout=30)
        daemon.stop()

    def named(self, api, name):
        if not hasattr(self, "named_file"):
            self.named_file = self.upload(api, chat_lines(20))
        return api.want(200, "POST", "/v1/batches", {
            "input_file_id": self.named_file, "endpoint": CHAT, "completion_window": "24h"},
            {"Idempotency-Key": name})["id"]

    def post_inline(self, api):
        requests = [{"custom_id": f"i-{i}", "body": json.loads(chat_line(i))["body"]}
                    for i in range(6)]
        return api.want(200, "POST", "/v1/batches", {
            "requests": requests, "endpoint": CHAT, "completion_window": "24h"})["id"]


class Read(Scenario):
    """Results are read while the batch runs, over two kills and to the end."""

    def follow(self, api, batch_id):
        try:
            api.call("GET", f"/v1/batches/{batch_id}/results?follow=1", timeout=20)
        except (OSError, http.client.HTTPException):
            pass  # the server was killed: that is the point

    def runTest(self):
        sim = self.sim("--latency", "5ms-20ms", "--fault", "400=0.2")
        daemon = self.recorded(sim.url, flags=["--max-inflight", "4"])
        batch_id = daemon.api.create(self.upload(daemon.api, chat_lines(90)))["id"]
        for done in (15, 45, 90):
            reader = threading.Thread(target=self.follow, args=(daemon.api, batch_id))
            reader.start()
            while sum(daemon.api.get(batch_id)["request_counts"][x]
                      for x in ("completed", "failed")) < done:
                daemon.api.call("GET", f"/v1/batches/{batch_id}/results")
            if done == 90:
                break
            daemon.kill9()
            reader.join()
            daemon.start()
            daemon.api.wait(batch_id, ("in_progress", "finalizing", "completed"), patient=True)
        ended = daemon.api.wait(batch_id, "completed", patient=True)
        reader.join()
        daemon.api.output(ended)
        daemon.api.errors(ended)
        daemon.stop()


class Keys(Scenario):
    """Keys are made and revoked by other processes beside the server."""

    def key(self, *args):
        status, out, err = self.program("key", *args, "--data-dir", self.data,
                                        env=self.recorder)
        self.assertEqual(status, 0, err)
        return out.strip()

    def made(self, name):
        key = self.key("add", name)
        number = key.split("-")[2]
        self.learnt(f"key-in-force {number}")
        return key, number

    def runTest(self):
        sim = self.sim("--latency", "2ms-5ms")
        daemon = self.recorded(sim.url)
        alice, _ = self.made("alice")
        daemon.api.key = alice
        batch_id = daemon.api.create(self.upload(daemon.api, chat_lines(20)))["id"]
        for name in ("bob", "carol", "dave"):
            _, number = self.made(name)
            daemon.api.get(batch_id)
            if name != "dave":
                self.learnt(f"key-unsure {number}")
                self.key("revoke", name)
                self.learnt(f"key-revoked {number}")
        daemon.api.wait(batch_id, "completed")
        daemon.stop()


class Syncs(Scenario):
    """Something happens at one of the syncs of the first life, another life goes on with what
    the page cache shows, and does everything once more."""

    def work(self, daemon):
        try:
            self.everything(daemon.api)
        except (OSError, AssertionError, Refused, TookTooLong, http.client.HTTPException):
            pass  # the server is gone or refuses: that is the point

    def first_life(self, sim):
        try:
            daemon = self.recorded(sim.url, flags=["--max-inflight", "8"])
        except AssertionError:  # it came before there was anything to work with
            return self.daemons[-1]
        worker = threading.Thread(target=self.work, args=(daemon,), daemon=True)
        worker.start()
        while worker.is_alive() and daemon.proc.alive():
            time.sleep(0.01)
        return daemon

    def check_end(self, daemon):
        if daemon.proc.alive():
            daemon.kill9()

    def runTest(self):
        sim = self.sim("--latency", "5ms-30ms")
        daemon = self.first_life(sim)
        self.check_end(daemon)
        for name in self.env:
            daemon.env.pop(name)
        daemon.start()
        self.everything(daemon.api)
        daemon.stop()


class FailedSync(Syncs):
    """The sync fails.  Where bytes are kept that somebody was promised, the server must not go
    on: it ends by itself, with the status that says so."""

    MUST_STOP = re.compile(r"(spool|spool/.*\.log|ledger\.db(-wal)?)$")

    def check_end(self, daemon):
        failed = [x for x in events(self.trace) if x[0] in ("SYNC_FAILED", "SYNC_DIR_FAILED")]
        if failed and self.MUST_STOP.match(failed[0][1]):
            self.assertEqual(daemon.proc.wait(), 74, f"after {failed[0]}")
        super().check_end(daemon)


class FailedLog(FailedSync):
    """The sync of a results log or of the ledger fails while a batch runs; the next life reads
    what the page cache shows, counts it, and goes on."""

    def run_on(self, api):
        batch_id = self.batch
        while api.get(batch_id)["status"] != "completed":
            time.sleep(0.003)

    def work(self, daemon):
        try:
            self.batch = daemon.api.create(self.upload(daemon.api, chat_lines(80)))["id"]
            self.run_on(daemon.api)
        except (OSError, AssertionError, Refused, http.client.HTTPException):
            pass  # as above

    def runTest(self):
        self.batch = None
        sim = self.sim("--latency", "5ms-30ms")
        daemon = self.first_life(sim)
        self.check_end(daemon)
        for name in self.env:
            daemon.env.pop(name)
        daemon.start()
        if not self.batch:
            self.work(daemon)
        daemon.api.wait(self.batch, ("in_progress", "finalizing", "completed"), patient=True)
        self.run_on(daemon.api)
        daemon.stop()


SCENARIOS = {"born": (Born, {}), "gone": (Gone, {}), "plain": (Plain, {}), "killed": (Killed, {}),
             "stopped": (Stopped, {}), "asked": (Asked, {}), "read": (Read, {}), "keys": (Keys, {})}
# The syncs of a first life, some 120, by their number; the first dozen are those of its start.
FAILED = [*(f"failed-sync-{n}" for n in (12, 25, 41, 77, 110)), "failed-spool-9",
          "failed-ledger-9"]
KILLED = ["killed-sync-64"]
QUICK = [*SCENARIOS, *FAILED, *KILLED]
LONG = [*SCENARIOS, *(f"failed-sync-{n}" for n in range(2, 125, 3)),
        *(f"failed-spool-{n}" for n in range(1, 30, 4)),
        *(f"failed-ledger-{n}" for n in range(2, 20, 3)),
        *(f"killed-sync-{n}" for n in range(4, 125, 8))]


def scenario(name):
    if name in SCENARIOS:
        return SCENARIOS[name]
    kind, number = name.rsplit("-", 1)
    fail = {"TRACE_FAIL_SYNC": number}
    return {"failed-sync": (FailedSync, fail),
            "failed-spool": (FailedLog, {**fail, "TRACE_FAIL_ONLY": "spool"}),
            "failed-ledger": (FailedLog, {**fail, "TRACE_FAIL_ONLY": "ledger.db"}),
            "killed-sync": (Syncs, {"TRACE_KILL_SYNC": number})}[kind]


def record(name, trace):
    """Runs a scenario; what went wrong, or None."""
    import unittest
    kind, env = scenario(name)
    run = kind()
    run.trace, run.env = trace, env
    if os.path.exists(trace):
        os.unlink(trace)  # the recorder appends
    result = unittest.TestResult()
    run.run(result)
    return "\n".join(text for _, text in result.failures + result.errors) or None


if __name__ == "__main__":
    problem = record(sys.argv[1], os.path.abspath(sys.argv[2]))
    if problem:
        sys.exit(problem)

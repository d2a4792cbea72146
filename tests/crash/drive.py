# SPDX-License-Identifier: Apache-2.0
"""drive: leads a server that is being recorded through everything that it promises anything of:
uploads, parts, batches that complete, fail, expire and are cancelled, deletions; with restarts,
kills and failing syncs between.  Each scenario is one trace."""

import hashlib
import os
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "e2e"))
sys.dont_write_bytecode = True

import http_forms  # noqa: E402  (after the path)
from harness import BATCHD, E2E, Refused, chat_line, chat_lines  # noqa: E402

RECORDER = os.environ.get("BATCHD_RECORDER", os.path.join(
    os.path.dirname(os.path.realpath(BATCHD)), "tests", "crash", "recorder.so"))


class Scenario(E2E):
    """One recorded run; `trace` is where it goes."""

    limit = 120
    trace = None
    fail_sync = 0  # the sync that fails, in the first life; 0: none

    def recorded(self, upstreams, **more):
        data = os.path.join(os.path.realpath(self.dir), "data")
        env = {"LD_PRELOAD": RECORDER, "TRACE_ROOT": data, "TRACE_LOG": self.trace}
        if self.fail_sync:
            env["TRACE_FAIL_SYNC"] = str(self.fail_sync)
        return self.serve(upstreams, data=data, env=env, **more)

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
        body = {"part_ids": ids} if end == "complete" else None
        api.want(200, "POST", f"{path}/{end}", body)

    def everything(self, api):
        """All that can be promised, in a few seconds."""
        good, bad = chat_lines(12), chat_line(0) + b"\n{nope\n"
        mixed = b"".join(chat_line(i) + b"\n" for i in range(8))
        batches = [api.create(self.upload(api, good))["id"],
                   api.create(self.upload(api, bad))["id"],
                   api.create(self.upload(api, chat_lines(40)), window="1s")["id"],
                   api.create(self.upload(api, chat_lines(400)))["id"]]
        spare = self.upload(api, mixed, purpose="batch")
        self.upload_in_parts(api, chat_lines(5), "complete")
        self.upload_in_parts(api, chat_lines(6), "cancel")
        api.delete(spare)
        for _ in range(10):
            api.want(200, "GET", "/v1/batches")
            time.sleep(0.01)
        api.cancel(batches[3])
        for batch_id in batches:
            api.wait(batch_id, timeout=30)
        api.want(200, "GET", "/v1/files")
        api.delete(api.get(batches[0])["output_file_id"])


class Plain(Scenario):
    def runTest(self):
        sim = self.sim("--latency", "5ms-30ms", "--fault", "400=0.1")
        daemon = self.recorded(sim.url, flags=["--max-inflight", "8"])
        self.everything(daemon.api)
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


class FailedSync(Scenario):
    """A sync fails; where that breaks a promise the server stops, and another goes on with what
    the page cache shows."""

    def work(self, daemon):
        try:
            self.everything(daemon.api)
        except (OSError, AssertionError, Refused):
            pass  # the server is gone or refuses: that is the point

    def runTest(self):
        sim = self.sim("--latency", "5ms-30ms")
        daemon = self.recorded(sim.url, flags=["--max-inflight", "8"])
        worker = threading.Thread(target=self.work, args=(daemon,), daemon=True)
        worker.start()
        worker.join(60)
        if daemon.proc.alive():  # it was the sync of what nobody had been promised
            daemon.kill9()
        daemon.env.pop("TRACE_FAIL_SYNC")
        daemon.start()
        self.everything(daemon.api)
        daemon.stop()


SCENARIOS = {"plain": (Plain, 0), "killed": (Killed, 0)}
SCENARIOS.update({f"failed-sync-{n}": (FailedSync, n) for n in (12, 30, 60, 110)})


def record(name, trace):
    """Runs a scenario; what went wrong, or None."""
    import unittest
    kind, fail_sync = SCENARIOS[name]
    scenario = kind()
    scenario.trace, scenario.fail_sync = trace, fail_sync
    result = unittest.TestResult()
    scenario.run(result)
    return "\n".join(text for _, text in result.failures + result.errors) or None


if __name__ == "__main__":
    problem = record(sys.argv[1], os.path.abspath(sys.argv[2]))
    if problem:
        sys.exit(problem)

# SPDX-License-Identifier: Apache-2.0
"""kill_client: a client that does everything there is, whose server is killed at a moment that it
chooses, and that remembers what it was told: by a Watch, and by what it must ask again."""

import hashlib
import http.client
import os
import signal
import threading
import time

import checker
import http_forms
from harness import CHAT, Refused, chat_lines

SIZES = (1, 30, 300, 1000, 2500)
SMALL = 300  # lines of a batch that is checked, and may be deleted, before the end
KEEP_BUSY = 4000  # lines that wait: below it more are submitted
GONE = (OSError, http.client.HTTPException)  # what a killed server looks like


class Job:
    """A batch that was acknowledged."""

    def __init__(self, data, source=None):
        self.data = data
        self.source = source  # the Job it continues
        self.lines = data.count(b"\n")
        self.report = None  # what check_batch found
        self.paused = self.deleted = False

    def reused(self):
        return set(self.source.report.output) if self.source else set()


class Upload:
    """A file in parts: those that were acknowledged, in order, and those that are to come."""

    def __init__(self, data):
        self.data = data
        n = max(1, len(data) // 3)
        self.pieces = [data[i:i + n] for i in range(0, len(data), n)]
        self.id = None
        self.parts = []


class Client:
    """daemon.watch holds what was promised; `fresh` is what of it no later life has confirmed."""

    def __init__(self, daemon, rng):
        self.daemon, self.watch, self.rng = daemon, daemon.watch, rng
        self.pool = {n: chat_lines(n) for n in SIZES}
        self.sent = {hashlib.sha256(x).digest() for x in self.pool.values()}
        self.jobs = {}
        self.asked = None  # (key, body, path, job): a create without an answer so far
        self.upload = None
        self.doubtful = set()  # files whose deletion was asked for
        self.fresh_files, self.fresh_batches, self.fresh_gone = set(), set(), set()
        self.keys = 0
        self.doing = "nothing"
        self.trap = (None, None)
        self.timers = []
        self.sprung = None  # what the server was killed in

    # The kill

    def arm(self, trap, seconds):
        """Kills at the latest after so many seconds, or as the trap has it: (when, what) with when
        one of begin, acked, saw."""
        self.trap, self.sprung = trap, None
        self.later(seconds)

    def later(self, seconds):
        timer = threading.Timer(seconds, self.kill)
        timer.daemon = True
        timer.start()
        self.timers.append(timer)

    def kill(self):
        if self.sprung is None:
            self.sprung = self.doing
        try:
            os.kill(self.daemon.proc.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def disarm(self):
        """From here on nothing kills, whatever becomes of a life that was armed."""
        self.trap = (None, None)
        while self.timers:
            timer = self.timers.pop()
            timer.cancel()
            timer.join()

    def begin(self, what):
        self.doing = what
        if self.trap == ("begin", what):
            self.later(self.rng.choice((0.0, 0.0005, 0.002, 0.006)))

    def acked(self, what):
        self.doing = "after " + what
        if self.trap == ("acked", what):
            self.kill()

    def saw(self, status):
        if self.trap == ("saw", status):
            self.doing = status
            self.kill()

    # What it does

    @property
    def api(self):
        return self.daemon.api

    def status(self, batch_id):
        return self.watch.batches[batch_id]["status"]

    def live(self):
        return [b for b in self.jobs if self.status(b) not in checker.TERMINAL]

    def ended(self):
        return [b for b in self.jobs if self.status(b) in checker.TERMINAL]

    def waiting(self):
        return sum(self.jobs[b].lines - self.watch.batches[b]["request_counts"]["completed"]
                   for b in self.live())

    def act(self):
        """One thing; raises one of GONE when the server is."""
        if self.asked:
            self.create_again()
        elif self.waiting() < KEEP_BUSY:
            self.submit()
        else:
            self.rng.choices(
                (self.look, self.step_upload, self.cancel, self.pause, self.go_on, self.take,
                 self.delete), (30, 12, 5, 4, 8, 8, 6))[0]()

    def look(self):
        self.begin("get")
        for batch_id in self.live():
            try:
                self.saw(self.api.get(batch_id)["status"])
            except Refused as e:
                if e.answer.status != 503:  # being recovered
                    raise

    def submit(self):
        n = self.rng.choices(SIZES, (3, 8, 8, 6, 6))[0]
        file_id = self.put(self.pool[n])
        if self.rng.random() < 0.9:
            self.ask("create", "/v1/batches", {
                "input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"},
                Job(self.pool[n]))

    def put(self, data):
        self.begin("upload")
        file_id = self.api.upload(data)
        self.fresh_files.add(file_id)
        self.acked("upload")
        return file_id

    def ask(self, what, path, body, job):
        """A create or a retry that is asked again, with its key, until it has an answer."""
        self.keys += 1
        self.asked = (what, f"key-{self.keys}", path, body, job)
        self.create_again()

    def create_again(self):
        what, key, path, body, job = self.asked
        self.begin(what)
        got = self.api.call("POST", path, body, {"Idempotency-Key": key})
        if got.status == 503:  # it was made, and is being recovered
            return
        checker.need(got.status == 200, "I8", f"{what} {body}: {got!r}")
        batch = got.json
        self.watch.saw(batch)
        self.jobs[batch["id"]] = job
        self.fresh_batches.add(batch["id"])
        self.asked = None
        self.acked(what)
        self.saw(batch["status"])

    def step_upload(self):
        """One call of an upload in parts, wherever an earlier life has left it."""
        up = self.upload
        if up is None:
            up = Upload(self.pool[self.rng.choice(SIZES[2:])])
            self.begin("upload in parts")
            up.id = self.api.want(200, "POST", "/v1/uploads", {
                "filename": "parts.jsonl", "purpose": "batch", "bytes": len(up.data),
                "mime_type": "application/jsonl"})["id"]
            self.upload = up
            self.acked("upload in parts")
        elif len(up.parts) < len(up.pieces):
            self.begin("part")
            up.parts.append(self.api.want(200, "POST", f"/v1/uploads/{up.id}/parts",
                                          *http_forms.part(up.pieces[len(up.parts)]))["id"])
            self.acked("part")
        else:
            self.begin("complete")
            got = self.api.want(200, "POST", f"/v1/uploads/{up.id}/complete",
                                {"part_ids": up.parts, "md5": hashlib.md5(up.data).hexdigest()})
            self.watch.uploaded(got["file"], up.data)
            self.fresh_files.add(got["file"]["id"])
            self.upload = None
            self.acked("complete")

    def cancel(self):
        self.end_of_some("cancel", "/cancel", ("cancelling", "cancelled"))

    def pause(self):
        # The answer is the batch as it is by then.
        self.end_of_some("pause", "/pause",
                         ("validating", "in_progress", "finalizing", "completed"))

    def end_of_some(self, what, path, then):
        """A call that a batch may have outrun: then it is 409."""
        live = self.live()
        if not live:
            return
        batch_id = self.rng.choice(live)
        self.begin(what)
        got = self.api.call("POST", f"/v1/batches/{batch_id}{path}")
        if got.status in (409, 503):
            return
        checker.need(got.status == 200 and got.json["status"] in then, "I6",
                     f"{what} of {batch_id}: {got!r}")
        self.watch.saw(got.json)
        if what == "cancel":
            self.watch.cancelled(batch_id)
            self.fresh_batches.add(batch_id)
        else:
            self.jobs[batch_id].paused = True
        self.acked(what)

    def go_on(self):
        """Resumes what is paused, or continues from what was cancelled."""
        paused = [b for b in self.live() if self.jobs[b].paused]
        if paused:
            self.begin("resume")
            got = self.api.call("POST", f"/v1/batches/{paused[0]}/resume")
            if got.status == 503:
                return
            checker.need(got.status in (200, 409), "I6", f"resume of {paused[0]}: {got!r}")
            self.jobs[paused[0]].paused = False
            self.acked("resume")
            return
        ended = [b for b in self.ended() if self.status(b) == "cancelled"
                 and self.jobs[b].report and self.jobs[b].report.errors
                 and not self.jobs[b].deleted
                 and self.watch.batches[b]["input_file_id"] not in self.doubtful]
        if ended:
            batch_id = self.rng.choice(ended)
            job = self.jobs[batch_id]
            self.ask("continue_from", f"/v1/batches/{batch_id}/retry", {}, Job(job.data, job))

    def take(self):
        """Reads and checks what a batch came to: small ones, and those that may be continued."""
        for batch_id in self.ended():
            job = self.jobs[batch_id]
            if job.report is None and (job.lines <= SMALL or self.status(batch_id) == "cancelled"):
                self.begin("content")
                self.check(batch_id)
                self.acked("content")
                return

    def check(self, batch_id):
        job = self.jobs[batch_id]
        if job.source and job.source.report is None:
            return
        job.report = checker.check_batch(self.api, self.watch.batches[batch_id], job.data,
                                         reused=job.reused())

    def delete(self):
        """A file of a batch that was checked, or an input while it is being used."""
        checked = [b for b in self.ended() if self.jobs[b].report and not self.jobs[b].deleted
                   and self.jobs[b].lines <= SMALL]
        if checked and self.rng.random() < 0.7:
            batch_id = self.rng.choice(checked)
            self.jobs[batch_id].deleted = True
            batch = self.watch.batches[batch_id]
            files = [x for x in (batch["output_file_id"], batch["error_file_id"]) if x]
        else:
            live = self.live()
            files = [self.watch.batches[x]["input_file_id"] for x in live[:1]]
        for file_id in files:
            if file_id not in self.watch.gone:
                self.begin("delete")
                # From here on nobody knows, until it is answered.
                self.doubtful.add(file_id)
                self.watch.files.pop(file_id, None)
                self.fresh_files.discard(file_id)
                got = self.api.call("DELETE", f"/v1/files/{file_id}")
                checker.need(got.status in (200, 404), "I8", f"delete of {file_id}: {got!r}")
                self.watch.deleted(file_id)
                self.fresh_gone.add(file_id)
                self.acked("delete")

    # What it was told

    def promises(self):
        """Asks for all that was promised since it was last confirmed."""
        self.doing = "promises"
        for file_id in list(self.fresh_files):
            got = self.api.call("GET", f"/v1/files/{file_id}/content")
            checker.need(got.status == 200 and
                         hashlib.sha256(got.body).digest() == self.watch.files[file_id], "I8",
                         f"the file {file_id} is lost or changed: {got!r}")
            self.fresh_files.discard(file_id)
        for file_id in list(self.fresh_gone):
            got = self.api.call("GET", f"/v1/files/{file_id}")
            checker.need(got.status == 404, "I8", f"the deleted {file_id} is back: {got!r}")
            self.fresh_gone.discard(file_id)
        for batch_id in list(self.fresh_batches) + self.live():
            got = self.api.call("GET", f"/v1/batches/{batch_id}")
            if got.status == 503:
                continue  # being recovered; it is asked for again
            checker.need(got.status == 200, "I8", f"the batch {batch_id}: {got!r}")
            self.watch.saw(got.json)
            checker.need(batch_id not in self.watch.cancels
                         or got.json["status"] in ("cancelling", "cancelled"), "I8",
                         f"the cancel of {batch_id} is lost: {got.json['status']}")
            self.fresh_batches.discard(batch_id)

    def drain(self, timeout):
        """No more kills: everything that was begun comes to its end."""
        while self.asked:
            self.create_again()
        while self.upload:
            self.step_upload()
        end = time.monotonic() + timeout
        while self.live():
            if time.monotonic() > end:
                raise AssertionError(f"I10: still live: {self.live()}")
            for batch_id in self.live():
                # A pause may have been made without an answer.
                self.api.call("POST", f"/v1/batches/{batch_id}/resume")
                self.api.wait(batch_id, timeout=timeout, patient=True)

# SPDX-License-Identifier: Apache-2.0
"""life: one life of a server in which a call fails, what its clients were told in it, and the life
after it, in which nothing fails and everything that was told must be true."""

import copy
import errno
import http.client
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "e2e"))
sys.dont_write_bytecode = True

import checker  # noqa: E402  (after the path)
import http_forms  # noqa: E402
from harness import BATCHD, TERMINAL, Api, Refused, chat_line, environment  # noqa: E402

FAULTY = os.environ.get("BATCHD_FAULTY", os.path.join(
    os.path.dirname(os.path.realpath(BATCHD)), "tests", "faults", "faulty.so"))
# batchd(1), EXIT STATUS; 2 is a person's mistake and no fault's.
EXITS = (0, 69, 71, 73, 74)
FLAGS = ("--max-inflight", "4", "--drain-timeout", "300ms", "--cancel-timeout", "1s",
         "--sync-interval", "10ms", "--http-workers", "2")
ENV = {"BATCHD_RETRY_BASE": "10ms", "BATCHD_RETRY_CAP": "100ms"}
SLOW_END = 10.0  # seconds in which a server that is told to stop must be gone

with open(os.path.join(HERE, "board.h"), encoding="ascii") as _f:
    KINDS = re.findall(r"^    X\((\w+)\)", _f.read(), re.M)
_COUNTS, _SITES = 256, 520


class Broken(AssertionError):
    """A fault had an effect that it must not have."""


class Board:
    """What faulty tells, see board.h."""

    def __init__(self, path):
        try:
            with open(path, "rb") as f:
                self.data = f.read()
        except FileNotFoundError:
            self.data = b""
        if len(self.data) < _SITES:
            self.data = bytes(_SITES)
        self.hits = struct.unpack_from("<Q", self.data)[0]
        self.what = self.data[8:_COUNTS].split(b"\0")[0].decode("utf-8", "replace")
        counts = struct.unpack_from("<32Q", self.data, _COUNTS)
        self.counts = dict(zip(KINDS, counts))

    def sites(self):
        """{kind: [who made the first call, the second, ...]}"""
        got = {k: [] for k in KINDS}
        n = struct.unpack_from("<Q", self.data, _SITES - 8)[0]
        for kind, callers in struct.iter_unpack("<II", self.data[_SITES:_SITES + 8 * n]):
            got[KINDS[kind]].append(callers)
        return got


class Patience(Api):
    """An Api that does not wait long: everything here is small."""

    def call(self, method, path, body=None, headers=None, timeout=8.0):
        return super().call(method, path, body, headers, min(timeout, 8.0))


class Server:
    """A running `batchd serve`."""

    def __init__(self, where, name, data, upstream, watch, env):
        self.log = os.path.join(where, name + ".err")
        with open(self.log, "wb") as err:
            self.popen = subprocess.Popen(
                [BATCHD, "serve", "--listen", "127.0.0.1:0", "--data-dir", data,
                 "--upstream", upstream, *FLAGS], stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=err, cwd=where, env=environment({**ENV, **env}))
        self.watch = watch
        self.api = None

    def ready(self):
        """False: it ended instead."""
        line = self.popen.stdout.readline().decode()
        if line:
            self.api = Patience(line.split()[-1], self.watch)
        return bool(line)

    def alive(self):
        return self.popen.poll() is None

    def ended(self, seconds=SLOW_END):
        """Its exit status; None: it still runs."""
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, how=signal.SIGTERM):
        if self.alive():
            self.popen.send_signal(how)
        return self.ended()

    def close(self):
        if self.alive():
            self.popen.kill()
        self.popen.wait()
        self.popen.stdout.close()

    def told(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()


# ---------------------------------------------------------------- what clients do

def lines(n, first=0):
    return b"".join(chat_line(i, max_tokens=2) + b"\n" for i in range(first, first + n))


class Client:
    """Does what clients do, remembers what failed, and goes on."""

    def __init__(self, server, patience):
        self.server, self.api, self.patience = server, server.api, patience
        self.failed = []  # (what, the answer or None when there was none)
        self.inputs = {}  # batch id: its input
        self.perhaps_gone = set()

    def do(self, what, call, *args, **more):
        try:
            return call(*args, **more)
        except Refused as e:
            self.failed.append((what, e.answer))
        except (OSError, http.client.HTTPException, ValueError) as e:
            self.failed.append((f"{what}: {e!r}", None))
        return None

    def create(self, data, window="24h"):
        file_id = self.do("upload", self.api.upload, data)
        batch = file_id and self.do("create", self.api.create, file_id, window=window)
        if batch:
            self.inputs[batch["id"]] = data
        return batch and batch["id"]

    def parts(self, data, end):
        up = self.do("upload.create", self.api.want, 200, "POST", "/v1/uploads", {
            "filename": "p.jsonl", "purpose": "batch", "bytes": len(data),
            "mime_type": "application/jsonl"})
        if not up:
            return
        path, half = f"/v1/uploads/{up['id']}", len(data) // 2
        parts = [self.do("part", self.api.want, 200, "POST", path + "/parts",
                         *http_forms.part(x)) for x in (data[:half], data[half:])]
        if not all(parts):
            return
        body = {"part_ids": [x["id"] for x in parts]} if end == "complete" else None
        got = self.do("upload." + end, self.api.want, 200, "POST", f"{path}/{end}", body)
        if got and end == "complete":
            self.api.watch.uploaded(got["file"], data)

    def delete(self, file_id):
        self.perhaps_gone.add(file_id)
        self.do("delete", self.api.delete, file_id)

    def cancel(self, batch_id):
        self.do("cancel", self.api.cancel, batch_id)
        what, answer = self.failed[-1] if self.failed else (None, None)
        if what == "cancel" and answer and answer.status == 409:
            self.failed.pop()  # it had come to its end already

    def until_ended(self, ids):
        """True: each of these batches is at its end."""
        end = time.monotonic() + self.patience
        left = [x for x in ids if x]
        while left and self.server.alive():
            got = self.do("get", self.api.get, left[0])
            if got and got["status"] in TERMINAL:
                left.pop(0)
            elif time.monotonic() > end:
                return False
            else:
                time.sleep(0.004)
        return not left

    def new_work(self):
        """All that a server promises, in a quarter of a second."""
        first = self.create(lines(10))
        self.parts(lines(3), "complete")
        second = self.create(lines(150))
        self.parts(lines(2), "cancel")
        spare = self.do("upload", self.api.upload, lines(2, 50))
        if spare:
            self.delete(spare)
        for path in ("/v1/files", "/v1/batches", "/v1/models", "/metrics"):
            self.do(path, self.api.want, 200, "GET", path)
        bad = self.create(chat_line(0) + b"\n{nope\n")
        if second:
            self.cancel(second)
        ended = self.until_ended([first, second, bad])
        batch = first and self.do("get", self.api.get, first)
        if batch and batch["output_file_id"]:
            self.do("content", self.api.content, batch["output_file_id"])
            self.delete(batch["output_file_id"])
        return ended

    def old_work(self):
        """What a server that died left behind, and one more batch beside it."""
        last = self.create(lines(5))
        return self.until_ended([*self.api.watch.batches, last])


# ---------------------------------------------------------------- the life after

def all_batches(api):
    got, after = [], ""
    while True:
        answer = api.call("GET", "/v1/batches?limit=100" + after)
        if answer.status == 503:  # recovery is not over
            time.sleep(0.01)
            continue
        page = answer.json
        got += [x["id"] for x in page["data"]]
        if not page["has_more"]:
            return got
        after = "&after=" + page["data"][-1]["id"]


def life_after(where, data, upstream, watch, client, tough):
    """Nothing fails any more: the work ends, and everything that was told is true.  tough: the
    fault may have been taken for an upstream's."""
    inputs = client.inputs if client else {}
    gone = client.perhaps_gone if client else set()
    server = Server(where, "after", data, upstream, watch, {})
    try:
        if not server.ready():
            raise Broken(f"it does not start again: {server.ended()} {server.told()[-600:]}")
        end = time.monotonic() + 20
        for batch_id in all_batches(server.api):
            batch = server.api.wait(batch_id, timeout=max(1.0, end - time.monotonic()),
                                    patient=True)
            if batch_id in inputs and batch["output_file_id"] not in gone:
                report = checker.check_batch(server.api, batch, inputs[batch_id])
                bad = batch["status"] == "completed" and report.errors
                if bad and not tough:
                    raise Broken(f"lines failed: {dict(report.codes)}")
        watch.check_promises(server.api)
        status = server.stop()
        if status != 0:
            raise Broken(f"the life after ended with {status}: {server.told()[-600:]}")
        checker.check_log(server.told())
        checker.check_data_dir(data, watch)
    except (OSError, http.client.HTTPException) as e:
        raise Broken(f"in the life after: {e!r}, status {server.stop()}, log: "
                     f"{server.told()[-900:]}") from None
    finally:
        server.close()


# ---------------------------------------------------------------- one fault

class Fault:
    """One call that fails: the n-th of its kind in a scenario.  how: an errno, "short" or
    "kill"; ever: all after it, too."""

    # Failures that look like an upstream's, when they last: lines may be given up for them.
    UPSTREAMS = ("socket", "connect", "send", "recv", "epoll", "dup", "alloc", "mmap")

    def __init__(self, scenario, kind, nth, how, ever=False):
        self.scenario, self.kind, self.nth, self.how, self.ever = scenario, kind, nth, how, ever

    def __str__(self):
        how = errno.errorcode.get(self.how, self.how)
        return f"{self.scenario}: {self.kind} {self.nth} {how}{' for ever' * self.ever}"

    def env(self, where, data):
        return {"LD_PRELOAD": FAULTY, "FAULT_BOARD": os.path.join(where, "board"),
                "FAULT_ROOT": data, "FAULT_KIND": self.kind, "FAULT_NTH": str(self.nth),
                "FAULT_HOW": str(self.how), **({"FAULT_EVER": "1"} if self.ever else {})}

    def names_it(self, text, board):
        """What a person reads tells what failed: the errno in words, or the object."""
        # The root itself is "", and SQLite tells of the ledger when it syncs that.
        words = [re.sub("-(wal|journal)$", "", os.path.basename(board.what)) or "ledger.db"]
        if isinstance(self.how, int):
            words.append(os.strerror(self.how).lower())
        if self.how == errno.ENOMEM:
            # A thread that finds no memory for itself is told as EAGAIN.
            words += ["out of memory", "no memory", "is overloaded", os.strerror(errno.EAGAIN).lower()]
        return any(x and x in text.lower() for x in words)


def judge(fault, board, server, client, ended, status):
    """Of the life with the fault: how it ended, what clients were told, what the log says."""
    text = server.told()
    if status is None:
        raise Broken(f"it does not end within {SLOW_END:.0f} s of SIGTERM: {text[-600:]}")
    if fault.how == "kill":
        if status != -signal.SIGKILL:
            raise Broken(f"killed, but it ended with {status}")
        return
    out_of_memory = status == -signal.SIGABRT and fault.kind in ("alloc", "mmap") \
        and "out of memory" in text
    if status not in EXITS and not out_of_memory:
        raise Broken(f"it ended with {status}: {text[-600:]}")
    if not out_of_memory:
        checker.check_log(text)
    answers = [a for _, a in client.failed if a is not None] if client else []
    for answer in answers:
        if answer.status < 500:
            raise Broken(f"a good request was refused: {answer!r}")
    answers = [a for a in answers if b"server_recovering" not in a.body]
    if (status or answers) and not fault.names_it(
            text + " ".join(a.body.decode("utf-8", "replace") for a in answers), board):
        raise Broken(f"what failed ({board.what}) is not named: status {status}, {answers}, "
                     f"log: {text[-900:]}")
    if client and not ended and not fault.ever and status == 0:
        raise Broken(f"the server lives and a batch does not end: {client.failed} {text[-900:]}")


def play(fault, where, template, upstream):
    """Plays one fault in an empty directory; True: it struck.  Raises Broken."""
    data = os.path.join(where, "data")
    watch, inputs = checker.Watch(), {}
    if fault.scenario == "recovery":
        shutil.copytree(template.data, data)
        watch, inputs = copy.deepcopy(template.watch), dict(template.inputs)
    server = Server(where, "fault", data, upstream, watch, fault.env(where, data))
    client = ended = None
    try:
        if server.ready():
            client = Client(server, 0.6 if fault.ever else 12.0)
            client.inputs = inputs
            ended = client.old_work() if fault.scenario == "recovery" else client.new_work()
        status = server.stop() if client else server.ended()
        board = Board(os.path.join(where, "board"))
        if board.hits:
            judge(fault, board, server, client, ended, status)
    finally:
        server.close()
    if board.hits:
        life_after(where, data, upstream, watch, client,
                   fault.ever and fault.kind in Fault.UPSTREAMS)
    return board.hits > 0


class Template:
    """A directory whose server was killed in the middle of its work, and what it had told."""

    def __init__(self, where, upstream):
        self.data = os.path.join(where, "data")
        self.watch = checker.Watch()
        server = Server(where, "template", self.data, upstream, self.watch, {})
        try:
            if not server.ready():
                raise Broken(f"no template: {server.told()}")
            client = Client(server, 10)
            client.until_ended([client.create(lines(4))])
            half = client.create(lines(60))
            client.create(lines(30))
            spare = server.api.upload(lines(2, 50))
            client.delete(spare)
            while server.api.get(half)["request_counts"]["completed"] < 10:
                time.sleep(0.002)
            server.stop(signal.SIGKILL)
            self.inputs = client.inputs
        finally:
            server.close()

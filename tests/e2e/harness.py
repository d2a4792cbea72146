# SPDX-License-Identifier: Apache-2.0
"""harness: the real program, started and talked to over HTTP.

Every end-to-end test derives from E2E.  A test gets an empty directory and a time limit;
what it starts dies with it; after it the checker has gone over every data directory it used.
Only Python's standard library.
"""

import ctypes
import http.client
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.parse

import checker

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BATCHD = os.path.abspath(os.environ.get("BATCHD", os.path.join(TOP, "build", "batchd")))
# Sanitizer builds are several times slower: all time limits are multiplied by this.
SLOWER = float(os.environ.get("BATCHD_E2E_SLOWER", "1"))
TERMINAL = ("completed", "failed", "expired", "cancelled")
CHAT = "/v1/chat/completions"

_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


class TookTooLong(Exception):
    """A test's or a wait's time limit has passed."""


def environment(more):
    """Ours without any setting of batchd, and more."""
    mine = {k: v for k, v in os.environ.items() if not k.startswith("BATCHD")}
    return {**mine, **(more or {})}


def tail(path, n=3000):
    try:
        with open(path, "rb") as f:
            f.seek(0, os.SEEK_END)
            f.seek(max(0, f.tell() - n))
            return f.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return "(no such file)"


def until(what, cond, timeout=10.0, pause=0.01):
    """Waits until cond() is true and hands back what it returned."""
    end = time.monotonic() + timeout * SLOWER
    while True:
        got = cond()
        if got:
            return got
        if time.monotonic() > end:
            raise TookTooLong(f"waited {timeout * SLOWER:.0f} s for: {what}")
        time.sleep(pause)
        pause = min(pause * 1.2, 0.1)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Proc:
    """One program under test: its output in files, its end always reaped."""

    def __init__(self, argv, where, name, env=None, file_limit=None):
        self.argv = argv
        self.out = os.path.join(where, name + ".out")
        self.err = os.path.join(where, name + ".err")
        self.rusage = None

        def before_exec():
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if file_limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

        with open(self.out, "ab") as out, open(self.err, "ab") as err:
            self._from = out.tell()  # the ready line of an earlier run is not ours
            self.popen = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=where,
                env=environment(env), preexec_fn=before_exec)
        self.pid = self.popen.pid

    def alive(self):
        return self.popen.poll() is None

    def ready(self, pattern, timeout=20.0):
        """Waits for a line of this run's standard output; returns the match."""
        def look():
            with open(self.out, "rb") as f:
                f.seek(self._from)
                got = re.search(pattern, f.read().decode("utf-8", "replace"))
            if not got and not self.alive():
                raise AssertionError(
                    f"{' '.join(self.argv)} ended with {self.popen.returncode} before it was "
                    f"ready\n{tail(self.err)}")
            return got
        return until(f"{pattern} from {self.argv[1]}", look, timeout, 0.002)

    def signal(self, number):
        if self.alive():
            os.kill(self.pid, number)

    def wait(self, timeout=20.0):
        """The exit status; -9 for SIGKILL and so on."""
        try:
            return self.popen.wait(timeout * SLOWER)
        except subprocess.TimeoutExpired:
            raise TookTooLong(f"{' '.join(self.argv)} did not end\n{tail(self.err)}") from None

    def kill9(self):
        self.signal(signal.SIGKILL)
        return self.wait()

    def term(self, timeout=20.0):
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def errors(self):
        return tail(self.err, 1 << 20)


class Answer:
    """One HTTP answer, read to its end."""

    def __init__(self, response):
        self.status = response.status
        self.headers = {k.lower(): v for k, v in response.getheaders()}
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        return self.json["error"]

    def __repr__(self):
        return f"HTTP {self.status} {self.body[:500]!r}"


class Refused(AssertionError):
    """The API answered other than the test expected."""

    def __init__(self, what, answer):
        super().__init__(f"{what}: {answer!r}")
        self.answer = answer


class Api:
    """The Batch API by plain HTTP; tells the watch what was acknowledged and seen."""

    def __init__(self, base, watch=None, key=None):
        self.base = base
        self.host = urllib.parse.urlsplit(base).netloc
        self.watch = watch or checker.Watch()
        self.key = key

    def call(self, method, path, body=None, headers=None, timeout=30.0):
        conn = http.client.HTTPConnection(self.host, timeout=timeout * SLOWER)
        head = dict(headers or {})
        if self.key:
            head.setdefault("Authorization", "Bearer " + self.key)
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
            head.setdefault("Content-Type", "application/json")
        try:
            conn.request(method, path, body, head)
            got = Answer(conn.getresponse())
        finally:
            conn.close()
        batch = re.fullmatch(r"/v1/batches/([^/?]+)/results(\?.*)?", path)
        if batch and got.status == 200 and method == "GET":
            self.watch.read_lines(batch.group(1), got.body)
        return got

    def want(self, status, method, path, body=None, headers=None):
        got = self.call(method, path, body, headers)
        if got.status != status:
            raise Refused(f"{method} {path}, want {status}", got)
        if not got.body or "json" not in got.headers.get("content-type", ""):
            return got
        told = got.json
        if status == 200 and isinstance(told, dict):
            self.watch.told(told, headers)
        return told

    # Files

    def upload_raw(self, data, filename="input.jsonl", purpose="batch", fields=()):
        mark = "----batchd-e2e-" + os.urandom(12).hex()
        parts = b""
        for name, value in [("purpose", purpose), *fields]:
            if value is not None:
                parts += (f'--{mark}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
                          f"{value}\r\n").encode()
        parts += (f'--{mark}\r\nContent-Disposition: form-data; name="file"; '
                  f'filename="{filename}"\r\nContent-Type: application/jsonl\r\n\r\n').encode()
        body = parts + data + f"\r\n--{mark}--\r\n".encode()
        return self.call("POST", "/v1/files", body,
                         {"Content-Type": f"multipart/form-data; boundary={mark}"}, timeout=120)

    def upload(self, data, filename="input.jsonl", purpose="batch"):
        got = self.upload_raw(data, filename, purpose)
        if got.status != 200:
            raise Refused("upload", got)
        self.watch.uploaded(got.json, data)
        return got.json["id"]

    def content(self, file_id):
        got = self.call("GET", f"/v1/files/{file_id}/content", timeout=60)
        if got.status != 200:
            raise Refused(f"content of {file_id}", got)
        return got.body

    def delete(self, file_id):
        with self.watch.deleting(file_id):
            return self.want(200, "DELETE", f"/v1/files/{file_id}")

    # Batches

    def create(self, file_id, endpoint=CHAT, window="24h", **more):
        batch = self.want(200, "POST", "/v1/batches", {
            "input_file_id": file_id, "endpoint": endpoint, "completion_window": window, **more})
        self.watch.saw(batch)
        return batch

    def get(self, batch_id):
        batch = self.want(200, "GET", f"/v1/batches/{batch_id}")
        self.watch.saw(batch)
        return batch

    def cancel(self, batch_id):
        batch = self.want(200, "POST", f"/v1/batches/{batch_id}/cancel")
        self.watch.cancelled(batch_id)
        self.watch.saw(batch)
        return batch

    def submit(self, lines, endpoint=CHAT, window="24h", **more):
        """Uploads lines (bytes, or a list of them) and creates their batch; its id."""
        data = lines if isinstance(lines, bytes) else b"".join(x + b"\n" for x in lines)
        return self.create(self.upload(data), endpoint, window, **more)["id"]

    def wait(self, batch_id, want=TERMINAL, timeout=30.0, patient=False):
        """Polls until the status is one of want.  patient: a server that is away or still
        recovering is waited for."""
        want = (want,) if isinstance(want, str) else want
        last = None

        def look():
            nonlocal last
            try:
                last = self.get(batch_id)
            except (OSError, http.client.HTTPException):
                if not patient:
                    raise
                return None
            except Refused as e:
                if not patient or e.answer.status != 503:
                    raise
                return None
            if last["status"] in want:
                return last
            if last["status"] in TERMINAL:
                raise AssertionError(f"wanted {want}, but it ended: {last}")
            return None
        try:
            return until(f"{batch_id} to be {want}", look, timeout, 0.005)
        except TookTooLong as e:
            raise TookTooLong(f"{e}; last seen: {last}") from None

    def output(self, batch):
        return self.content(batch["output_file_id"]) if batch["output_file_id"] else b""

    def errors(self, batch):
        return self.content(batch["error_file_id"]) if batch["error_file_id"] else b""


class Daemon:
    """`batchd serve` on one data directory, over any number of lives."""

    def __init__(self, test, upstreams, flags=(), config=None, env=None, file_limit=None,
                 data=None):
        self.test = test
        self.upstreams = [upstreams] if isinstance(upstreams, str) else list(upstreams)
        self.flags = list(flags)
        self.env = env
        self.file_limit = file_limit
        self.data = data or os.path.join(test.dir, f"data{len(test.daemons)}")
        self.watch = checker.Watch()
        self.lives = 0
        self.crashes = 0
        self.proc = None
        self.api = None
        self.name = f"serve{len(test.daemons)}"
        self.config = None
        if config is not None:
            self.config = os.path.join(test.dir, self.name + ".conf")
            with open(self.config, "w", encoding="utf-8") as f:
                f.write(config)

    def argv(self):
        argv = [BATCHD, "serve", "--listen", "127.0.0.1:0", "--data-dir", self.data]
        if self.config:
            argv += ["--config", self.config]
        for url in self.upstreams:
            argv += ["--upstream", url]
        return argv + self.flags

    def start(self):
        self.lives += 1
        self.proc = Proc(self.argv(), self.test.dir, self.name, self.env, self.file_limit)
        url = self.proc.ready(r"batchd listening on (http://\S+)").group(1)
        self.api = Api(url, self.watch)
        return self

    def kill9(self):
        self.crashes += 1
        self.proc.kill9()

    def restart(self):
        self.kill9()
        return self.start()

    def stop(self, timeout=20.0):
        """SIGTERM; the exit status must be 0."""
        status = self.proc.term(timeout)
        if status != 0:
            raise AssertionError(f"serve ended with {status} after SIGTERM\n{tail(self.proc.err)}")

    def settled(self):
        """Stops it and has the checker go over what is left on the disk."""
        if not self.proc:
            return  # it never started; the test has failed already
        if self.proc.alive():
            self.stop()
        checker.check_log(self.proc.errors())
        if os.path.isdir(self.data):
            checker.check_data_dir(self.data, self.watch)


class Sim:
    """`batchd sim`: the upstream (or several, in one process) with faults and an oracle of what
    reached it."""

    def __init__(self, test, *flags, port=0, replicas=1):
        # The same body has the same answer: what the sim would put in `created` stands still.
        self.proc = Proc([BATCHD, "sim", "--listen", f"127.0.0.1:{port}", "--oracle", "1000000",
                          "--created", "1700000000", "--replicas", str(replicas),
                          *map(str, flags)],
                         test.dir, f"sim{len(test.sims)}")
        said = self.proc.ready(r"(?:batchd sim listening on http://\S+\s+){%d}" % replicas)
        self.urls = re.findall(r"http://\S+", said.group(0))
        self.url = self.urls[0]
        self.ports = [urllib.parse.urlsplit(url).port for url in self.urls]
        self.port = self.ports[0]

    def oracle(self):
        oracle = checker.Oracle(b"".join(self._read("/oracle", port=p) for p in self.ports))
        if len(self.ports) > 1:
            for rows in oracle.by_line.values():
                rows.sort(key=lambda row: row["came_us"])
        return oracle

    def counts(self, replica=0):
        return json.loads(self._read("/oracle/counts", port=self.ports[replica]))

    def ask(self, path, body):
        """The answer to a request of our own: the same body has the same answer."""
        return self._read(path, "POST", body)

    def _read(self, path, method="GET", body=None, tries=20, port=None):
        try:
            return self._read_once(path, method, body, port or self.port)
        except ConnectionError:  # the fault `refuse` hits whatever connection it likes
            if tries == 0:
                raise
            return self._read(path, method, body, tries - 1, port)

    @staticmethod
    def _read_once(path, method, body, port):
        conn = http.client.HTTPConnection("127.0.0.1", port, timeout=60 * SLOWER)
        try:
            conn.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            got = Answer(conn.getresponse())
            if got.status != 200:
                raise Refused(f"{method} {path} of the sim", got)
            return got.body
        finally:
            conn.close()


class E2E(unittest.TestCase):
    """A test with its directory, its time limit and the checker at its end."""

    limit = 60  # seconds a test may take
    cost = 1  # rough seconds it does take: the dear ones start first
    # Retries come quickly; else most time of the fault tests would go into backoff.
    quick = {"BATCHD_RETRY_BASE": "10ms", "BATCHD_RETRY_CAP": "100ms"}

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="batchd-e2e-")
        self.sims, self.daemons, self.procs = [], [], []

        def late(_number, _frame):
            raise TookTooLong(f"the test took longer than {self.limit * SLOWER:.0f} s")
        signal.signal(signal.SIGALRM, late)
        signal.setitimer(signal.ITIMER_REAL, self.limit * SLOWER)

    def run(self, result=None):
        before = len(result.failures) + len(result.errors) if result else 0
        try:
            return super().run(result)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            bad = result is not None and len(result.failures) + len(result.errors) > before
            self._end(bad)

    def tearDown(self):
        for daemon in self.daemons:
            daemon.settled()

    def _end(self, bad):
        for proc in [d.proc for d in self.daemons if d.proc] + [s.proc for s in self.sims] \
                + self.procs:
            proc.kill9()
        if bad:
            for name in sorted(os.listdir(self.dir)):
                if name.endswith(".err") and os.path.getsize(os.path.join(self.dir, name)):
                    print(f"--- {self.id()}: end of {name}\n{tail(os.path.join(self.dir, name))}",
                          flush=True)
        if bad and os.environ.get("BATCHD_E2E_KEEP"):
            print(f"--- kept: {self.dir}", flush=True)
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    # What tests start

    def sim(self, *flags, **more):
        """more: port, replicas."""
        sim = Sim(self, *flags, **more)
        self.sims.append(sim)
        return sim

    def serve(self, upstreams, start=True, **more):
        """A daemon, started unless told otherwise; more: flags, config, env, file_limit, data."""
        more["env"] = {**self.quick, **more.get("env", {})}
        daemon = Daemon(self, upstreams, **more)
        self.daemons.append(daemon)
        return daemon.start() if start else daemon

    def program(self, *args, timeout=30.0, stdin=None, env=None):
        """Runs batchd to its end: (exit status, stdout, stderr)."""
        got = subprocess.run(
            [BATCHD, *map(str, args)], cwd=self.dir, input=stdin, capture_output=True,
            timeout=timeout * SLOWER, env=environment(env), check=False)
        return got.returncode, got.stdout.decode("utf-8", "replace"), \
            got.stderr.decode("utf-8", "replace")

    def background(self, *args, name="program"):
        proc = Proc([BATCHD, *map(str, args)], self.dir, f"{name}{len(self.procs)}")
        self.procs.append(proc)
        return proc

    def path(self, name, content=None):
        path = os.path.join(self.dir, name)
        if content is not None:
            with open(path, "wb") as f:
                f.write(content)
        return path

    # What tests ask

    def one_sentence(self, text):
        """A failure must tell a person one thing, and not spill its insides."""
        lines = [x for x in text.strip().splitlines() if x]
        self.assertEqual(len(lines), 1, f"want one sentence on stderr, got: {text!r}")
        self.assertLess(len(lines[0]), 600, text)
        self.assertNotRegex(text, r"(?i)sanitizer|check failed|core dumped|RC_[A-Z]+")
        return lines[0]

    def finished(self, daemon, batch_id, data, sim=None, want="completed", timeout=30.0, **more):
        """Waits for the end and has the checker compare everything; the report."""
        batch = daemon.api.wait(batch_id, want, timeout)
        return checker.check_batch(daemon.api, batch, data, sim.oracle() if sim else None,
                                   crashes=daemon.crashes, **more)


def chat_line(i, content=None, **more):
    """A good line of a chat batch, about 150 bytes unless content says otherwise."""
    body = {"model": "sim-model", "messages": [{"role": "user", "content": content or f"line {i}"}],
            "max_tokens": 8, **more}
    return json.dumps({"custom_id": f"c-{i}", "method": "POST", "url": CHAT, "body": body},
                      ensure_ascii=False).encode()


def chat_lines(n, first=0):
    return b"".join(chat_line(i) + b"\n" for i in range(first, first + n))

# SPDX-License-Identifier: Apache-2.0
"""The security matrix, a class for each threat: what a client, a file or a name may try, and
what must not come of it.  (Hosts of webhooks and callbacks are in test_callbacks.py.)
"""

import gzip
import http.client
import json
import os
import random
import re
import secrets
import socket
import string
import threading
import time
import zlib

from harness import CHAT, SLOWER, TOP, E2E, Api, chat_line, chat_lines, until
from upstream import Upstream, ok

ANSWER = b'{"object":"chat.completion","usage":{"prompt_tokens":1,"completion_tokens":1}}'
# What every answer has of its own.
OWN = ("date", "x-request-id", "openai-processing-ms")


def routes():
    """Every route of the program, as api.c lists them: a new one is tried without being named
    here."""
    with open(os.path.join(TOP, "src", "api", "api.c"), encoding="utf-8") as f:
        found = re.findall(r'^    \{"([A-Z]+)", *"(/[^"]*)", *\w+, *BODY_\w+\}', f.read(), re.M)
    if len(found) < 15 or ("GET", "/v1/batches/{id}") not in found:
        raise AssertionError(f"the routes in api.c are written otherwise now: {found}")
    return found


def form(name, data, filename="x", **fields):
    mark = "m" + secrets.token_hex(12)
    parts = [f'--{mark}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'
             for k, v in fields.items()]
    head = (f'--{mark}\r\nContent-Disposition: form-data; name="{name}"; '
            f'filename="{filename}"\r\n\r\n')
    body = "".join(parts).encode() + head.encode() + data + f"\r\n--{mark}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={mark}"}


def body_of(method, pattern, target="x"):
    """(body, headers) that gets past the body's checks of a route, if it has any."""
    if method != "POST":
        return None, {}
    if pattern == "/v1/files":
        return form("file", b"{}\n", "in.jsonl", purpose="batch")
    if pattern.endswith("/parts"):
        return form("data", b"{}\n")
    more = {"/v1/batches": {"input_file_id": target, "endpoint": CHAT,
                            "completion_window": "24h"},
            "/v1/batches/validate": {"input_file_id": target, "endpoint": CHAT},
            "/v1/batches/{id}": {"priority": 3},
            "/v1/uploads": {"filename": "in.jsonl", "purpose": "batch", "bytes": 3,
                            "mime_type": "application/jsonl"},
            "/v1/uploads/{id}/complete": {"part_ids": [target]}}.get(pattern, {})
    return json.dumps(more).encode(), {"Content-Type": "application/json"}


class Line:
    """A connection that stays open, and is opened again when the server closed it."""

    def __init__(self, host, key=None):
        self.host, self.key, self.conn = host, key, None

    def call(self, method, path, body=None, headers=None):
        head = dict(headers or {})
        if self.key:
            head["Authorization"] = "Bearer " + self.key
        for last in (False, True):
            if not self.conn:
                self.conn = http.client.HTTPConnection(self.host, timeout=30 * SLOWER)
            try:
                self.conn.request(method, path, body, head)
                got = self.conn.getresponse()
                answer = got.status, got.getheaders(), got.read()
                if got.will_close:
                    self.close()
                return answer
            except (OSError, http.client.HTTPException):
                self.close()
                if last:
                    raise
        raise AssertionError("not reached")

    def close(self):
        if self.conn:
            self.conn.close()
        self.conn = None


def in_threads(n, work, items):
    """work(thread's number, item) for each item; the first failure is raised."""
    todo, failed, lock = iter(items), [], threading.Lock()

    def run(number):
        while not failed:
            with lock:
                item = next(todo, None)
            if item is None:
                return
            try:
                work(number, item)
            except Exception as e:  # noqa: BLE001 (raised again below)
                failed.append(e)
    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if failed:
        raise failed[0]


def tree(top):
    """Every path below top."""
    return sorted(os.path.join(folder, name) for folder, dirs, files in os.walk(top)
                  for name in dirs + files)


def peak_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(re.search(r"VmHWM:\s+(\d+)", f.read()).group(1))


def raw(host, data, timeout=20.0):
    """Sends bytes as they are; all that comes until the server closes the connection."""
    name, port = host.rsplit(":", 1)
    with socket.create_connection((name, int(port)), timeout=timeout * SLOWER) as s:
        got = b""
        try:
            s.sendall(data)
            while True:
                piece = s.recv(65536)
                if not piece:
                    return got
                got += piece
        except (ConnectionResetError, BrokenPipeError):
            return got


class Keyed(E2E):
    cost = 5

    def add_key(self, daemon, name, project="default"):
        status, out, err = self.program("key", "add", name, "--project", project,
                                        "--data-dir", daemon.data)
        self.assertEqual(status, 0, err)
        return out.strip()

    def gated(self, **more):
        upstream = Upstream(ok(ANSWER))
        self.addCleanup(upstream.close)
        return upstream, self.serve(upstream.url, **more)


class S1Tenants(Keyed):
    cost = 20
    limit = 180

    def grow(self, api, upstream):
        """One object of each kind and state; their ids."""
        ids = {"file": api.upload(chat_lines(3))}
        done = api.wait(api.create(ids["file"])["id"], "completed")
        failed = api.wait(api.submit(b"{nope\n"), "failed")
        ids.update(done=done["id"], output=done["output_file_id"], failed=failed["id"],
                   bad=failed["input_file_id"])
        upstream.gate.clear()
        ids["running"] = api.submit(chat_lines(5))
        api.wait(ids["running"], "in_progress")
        body, head = body_of("POST", "/v1/uploads")
        ids["upload"] = api.want(200, "POST", "/v1/uploads", body, head)["id"]
        body, head = body_of("POST", "/v1/uploads/{id}/parts")
        ids["part"] = api.want(200, "POST", f"/v1/uploads/{ids['upload']}/parts", body,
                               head)["id"]
        return ids

    @staticmethod
    def plain(answer, object_id):
        """An answer without what differs between any two, and the id that was sent."""
        status, headers, body = answer
        head = sorted((k.lower(), v.replace(object_id, "ID")) for k, v in headers
                      if k.lower() not in OWN)
        return status, head, body.replace(object_id.encode(), b"ID")

    @staticmethod
    def unknown(object_id):
        """An id of the same form that was never given out."""
        head = re.match(r"(file-|[a-z]+_)", object_id).group(1)
        return head + secrets.token_hex(16)

    def calls(self, ids):
        """(method, path with ID in it, body's pattern, foreign id): each route with each."""
        found = []
        for method, pattern in routes():
            if "{id}" in pattern:
                found += [(method, pattern.replace("{id}", "ID"), pattern, x)
                          for x in ids.values()]
        found += [("GET", f"/v1/{kind}?after=ID", "", x)
                  for kind in ("files", "batches") for x in ids.values()]
        found += [("GET", "/v1/files?after=ID&order=asc&purpose=batch&limit=1", "", x)
                  for x in ids.values()]
        return found

    def test_ten_thousand_foreign_ids_answer_as_unknown_ones_on_every_route(self):
        upstream, daemon = self.gated()
        alice = Api(daemon.api.base, daemon.watch, self.add_key(daemon, "alice"))
        bob = Api(daemon.api.base, daemon.watch, self.add_key(daemon, "bob", "team-b"))
        ids = self.grow(alice, upstream)
        mine = bob.upload(chat_lines(1))
        before = {k: alice.call("GET", self.path_of(x)) for k, x in ids.items()
                  if not x.startswith("part_")}
        lines = [Line(bob.host, bob.key) for _ in range(6)]
        calls = self.calls(ids)
        self.assertGreater(len(calls), 40)

        def one(number, call):
            method, path, pattern, foreign = call
            answers = []
            for object_id in (foreign, self.unknown(foreign)):
                body, head = body_of(method, pattern, object_id)
                got = lines[number].call(method, path.replace("ID", object_id), body, head)
                answers.append(self.plain(got, object_id))
            self.assertEqual(answers[0], answers[1], call)
            if pattern:
                self.assertEqual(answers[0][0], 404, (call, answers[0]))
        wanted = 10000
        in_threads(len(lines), one, (calls[i % len(calls)] for i in range(wanted)))
        for line in lines:
            line.close()
        # What was asked of somebody else's objects was not done to them.
        for kind, was in before.items():
            now = alice.call("GET", self.path_of(ids[kind]))
            self.assertEqual((now.status, now.body), (was.status, was.body), kind)
        self.assertEqual(alice.content(ids["file"]), chat_lines(3))
        # And nothing of theirs is in our lists, nor of ours in theirs.
        self.assertEqual([x["id"] for x in bob.want(200, "GET", "/v1/files")["data"]], [mine])
        self.assertEqual(bob.want(200, "GET", "/v1/batches")["data"], [])
        self.assertNotIn(mine, alice.call("GET", "/v1/files").body.decode())
        upstream.gate.set()
        alice.wait(ids["running"], "completed")

    @staticmethod
    def path_of(object_id):
        kind = {"f": "files", "b": "batches", "u": "uploads"}[object_id[0]]
        return f"/v1/{kind}/{object_id}"

    def test_a_foreign_file_or_batch_in_a_body_is_as_an_unknown_one(self):
        upstream, daemon = self.gated()
        alice = Api(daemon.api.base, daemon.watch, self.add_key(daemon, "alice"))
        bob = Api(daemon.api.base, daemon.watch, self.add_key(daemon, "bob", "team-b"))
        ids = self.grow(alice, upstream)
        upstream.gate.set()
        seen = len(upstream.seen)
        mine = bob.upload(chat_lines(1))
        for foreign in ids.values():
            ended, checked, continued = [], [], []
            for object_id in (foreign, self.unknown(foreign)):
                body = {"input_file_id": object_id, "endpoint": CHAT,
                        "completion_window": "24h"}
                batch = bob.want(200, "POST", "/v1/batches", body)
                batch = bob.wait(batch["id"], "failed")
                ended.append(json.dumps(batch["errors"]).replace(object_id, "ID"))
                body, head = body_of("POST", "/v1/batches/validate", object_id)
                got = bob.call("POST", "/v1/batches/validate", body, head)
                checked.append((got.status, got.body.replace(object_id.encode(), b"ID")))
                got = bob.call("POST", "/v1/batches", {
                    "input_file_id": mine, "endpoint": CHAT, "completion_window": "24h",
                    "continue_from": object_id})
                text = re.sub(rb'batch_[0-9a-f]{32}|"(created|expires)_at":\d+', b"X",
                              got.body.replace(object_id.encode(), b"ID"))
                continued.append((got.status, text))
            self.assertEqual(ended[0], ended[1], foreign)
            self.assertIn("invalid_request", ended[0])
            self.assertEqual(checked[0], checked[1], foreign)
            self.assertEqual(continued[0], continued[1], foreign)
        bob_lines = [x for x in upstream.seen[seen:] if b"line 2" in x[2]]
        self.assertEqual(len(bob_lines), 0, "a line of the other project's file was run")

    def test_an_idempotency_key_of_another_project_is_another_one(self):
        upstream, daemon = self.gated()
        made = []
        for name, project in (("alice", "default"), ("bob", "team-b"), ("ann", "default")):
            api = Api(daemon.api.base, daemon.watch, self.add_key(daemon, name, project))
            if name != "ann":
                file_id = api.upload(chat_lines(1))
            body = {"input_file_id": file_id if name != "ann" else made[0]["input_file_id"],
                    "endpoint": CHAT, "completion_window": "24h"}
            got = api.call("POST", "/v1/batches", body, {"Idempotency-Key": "same"})
            self.assertEqual(got.status, 200, got)
            made.append(got.json)
        self.assertNotEqual(made[0]["id"], made[1]["id"])
        self.assertEqual(made[0]["id"], made[2]["id"])  # another key of the same project

    def test_a_foreign_part_completes_no_upload(self):
        upstream, daemon = self.gated()
        alice = Api(daemon.api.base, daemon.watch, self.add_key(daemon, "alice"))
        bob = Api(daemon.api.base, daemon.watch, self.add_key(daemon, "bob", "team-b"))
        ids = self.grow(alice, upstream)
        upstream.gate.set()
        body, head = body_of("POST", "/v1/uploads")
        upload = bob.want(200, "POST", "/v1/uploads", body, head)["id"]
        got = []
        for part in (ids["part"], self.unknown(ids["part"])):
            answer = bob.call("POST", f"/v1/uploads/{upload}/complete", {"part_ids": [part]})
            got.append((answer.status, answer.body.replace(part.encode(), b"ID")))
        self.assertEqual(got[0], got[1])
        self.assertEqual(got[0][0], 400, got)


class S2Keys(Keyed):
    def test_no_key_is_in_logs_metrics_listings_or_anything_on_the_disk(self):
        planted = {"upstream": "up-" + secrets.token_hex(24)}
        key_file = self.path("upstream.key", planted["upstream"].encode() + b"\n")
        upstream = Upstream(ok(ANSWER))
        self.addCleanup(upstream.close)
        config = (f"[server]\nlog_level = debug\n[upstream a]\nurl = {upstream.url}\n"
                  f"key_file = {key_file}\n")
        daemon = self.serve([], config=config)
        planted["good"] = self.add_key(daemon, "good")
        planted["gone"] = self.add_key(daemon, "gone")
        self.program("key", "revoke", "gone", "--data-dir", daemon.data)
        planted["wrong"] = planted["good"][:-6] + "zzzzzz"
        planted["alien"] = "sk-proj-" + secrets.token_hex(24)
        api = daemon.api
        for name, key in planted.items():
            for path in ("/v1/files", "/v1/batches/none", "/v1/nothing", "/healthz"):
                for head in ({"Authorization": f"Bearer {key}"}, {"Authorization": key},
                             {"Authorization": f"Basic {key}"}, {"X-Api-Key": key}):
                    api.call("GET", path, headers=head)
                    api.call("POST", path, b"{}", headers=head)
            if name != "good":
                self.assertEqual(api.call("GET", "/v1/files",
                                          headers={"Authorization": "Bearer " + key}).status, 401)
        api.key = planted["good"]
        data = chat_lines(5)
        self.finished(daemon, api.submit(data), data)
        self.assertEqual(upstream.seen[0][1]["Authorization"], "Bearer " + planted["upstream"])
        shown = [api.call("GET", "/metrics").body, api.call("GET", "/").body,
                 self.program("key", "list", "--data-dir", daemon.data)[1].encode(),
                 self.program("serve", "--config", daemon.config, "--print-config")[1].encode()]
        for name in ("cmdline", "environ"):
            with open(f"/proc/{daemon.proc.pid}/{name}", "rb") as f:
                shown.append(f.read())
        daemon.kill9()  # the WAL and all that a crash leaves
        for path in [*tree(daemon.data), daemon.proc.err, daemon.proc.out]:
            if os.path.isfile(path):
                with open(path, "rb") as f:
                    shown.append(f.read())
        self.assertGreater(sum(map(len, shown)), 10000)
        for name, key in planted.items():
            secret = key[-48:].encode()  # a key's id is no secret
            for text in shown:
                self.assertNotIn(secret, text, f"{name} was found")
                self.assertNotIn(secret[:16], text, f"a part of {name} was found")
        daemon.start()


class S3Urls(Keyed):
    def mutations(self, port):
        """500 urls that are not the batch's endpoint, by seed."""
        rng = random.Random(7)
        evil = f"127.0.0.1:{port}"
        fixed = [f"http://{evil}{CHAT}", f"//{evil}{CHAT}", f"https://{evil}/", f"{evil}{CHAT}",
                 f"\\\\{evil}{CHAT}", f"/\\{evil}{CHAT}", f"@{evil}{CHAT}", f":80@{evil}{CHAT}",
                 f"http:{evil}{CHAT}", f"HTTP://{evil}", f"{CHAT}@{evil}", f"{CHAT}#@{evil}",
                 f"{CHAT}?url=http://{evil}", f"{CHAT}/../../../{evil}", f"{CHAT}%00{evil}",
                 f"{CHAT}\0", f"{CHAT}\r\nHost: {evil}", f"{CHAT} HTTP/1.1\r\nHost: {evil}",
                 "", "/", "/v1", "/v1/", CHAT + "/", CHAT + " ", " " + CHAT, "/" + CHAT,
                 CHAT.upper(), CHAT[1:], CHAT.replace("/", "\\"), CHAT.replace("/", "%2f"),
                 CHAT.replace("/", "／"), CHAT.replace("a", "а"), "/v1/./chat/completions",
                 "/v1/x/../chat/completions", "/v1/chat/completions/../../admin", "file:///etc/passwd",
                 "gopher://" + evil, "/v1/embeddings", "/v1/completions", "/health",
                 f"http://localhost:{port}", f"http://0x7f000001:{port}", f"http://[::1]:{port}",
                 f"http://[::ffff:127.0.0.1]:{port}", f"http://2130706433:{port}",
                 f"unix:/run/x", f"{CHAT};{evil}", f"{CHAT}\u2028", f"\ufeff{CHAT}"]
        found = set(fixed)
        pieces = ["//", "\\", "@", "%2f", "%2e%2e/", "..", ":", "#", "?", "\r\n", "\t", "\0", "é",
                  "\u202e", evil, "http:", "/", " ", ";", "%", "%00", "{", "$", "`"]
        while len(found) < 500:
            text = list(CHAT)
            for _ in range(rng.randint(1, 3)):
                text.insert(rng.randint(0, len(text)), rng.choice(pieces))
            found.add("".join(text))
        found.discard(CHAT)
        return sorted(found)

    def test_five_hundred_urls_reach_nobody_but_the_configured_upstream(self):
        decoy = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.addCleanup(decoy.close)
        decoy.settimeout(0.2)
        _, daemon = upstream, _ = self.gated()
        daemon = self.daemons[0]
        urls = self.mutations(decoy.getsockname()[1])
        self.assertGreaterEqual(len(urls), 499)
        lines = []
        for i, url in enumerate(urls):
            line = json.loads(chat_line(i))
            line["url"] = url
            lines.append(json.dumps(line).encode())
        batch = daemon.api.wait(daemon.api.submit(lines), "failed")
        self.assertEqual([x["line"] for x in batch["errors"]["data"]],
                         list(range(1, len(urls) + 1)))
        self.assertEqual({x["code"] for x in batch["errors"]["data"]}, {"invalid_url"})
        file_id = daemon.api.upload(chat_lines(1))
        for url in urls:
            got = daemon.api.call("POST", "/v1/batches", {
                "input_file_id": file_id, "endpoint": url, "completion_window": "24h"})
            if url in ("/v1/embeddings", "/v1/completions"):
                daemon.api.wait(got.json["id"], "failed")
                continue
            self.assertEqual((got.status, got.error["param"]), (400, "endpoint"), url)
        # In the body, where servers look for media, urls are the server's to judge: they pass.
        line = json.loads(chat_line(0))
        line["body"]["messages"][0]["content"] = [
            {"type": "image_url", "image_url": {"url": urls[0]}}]
        daemon.api.wait(daemon.api.submit([json.dumps(line).encode()]), "completed")
        self.assertEqual([x[0] for x in upstream.seen], [CHAT])
        with self.assertRaises(TimeoutError):
            decoy.accept()


class S5Paths(Keyed):
    cost = 20
    limit = 180

    def names(self, n):
        rng = random.Random(5)
        parts = ["..", "../", "..\\", "/", "//", "\\", "%2e%2e%2f", "..%2f", "%00", "\x01", "~",
                 "$HOME", "`id`", ";rm -rf /", "|", "*", "?", "con", "aux.", "nul", ".", "é", "\u202e",
                 "日本", "a" * 60, "tmp", "etc/passwd", "LOCK", "ledger.db", "keys", "FORMAT", "files",
                 "spool", "-rf", "--", "'", "<script>", "&", "\t", ".link", ".jsonl"]
        fixed = ["../" * k + "etc/passwd" for k in range(1, 20)]
        fixed += ["/etc/passwd", "/proc/self/environ", "../ledger.db", "../keys", "..", "."]
        return fixed + ["".join(rng.choice(parts) for _ in range(rng.randint(1, 6)))
                        for _ in range(n - len(fixed))]

    def test_ten_thousand_names_and_ids_touch_nothing_outside_the_data_directory(self):
        daemon = self.serve([])
        host = daemon.api.host
        names = self.names(10000)
        before = [p for p in tree(self.dir) if not p.startswith(daemon.data)]
        top = [p for p in tree(daemon.data)]
        lines = [Line(host) for _ in range(6)]
        taken = []
        patterns = [(m, p) for m, p in routes() if "{" in p]

        def one(number, item):
            i, name = item
            if i % 10 == 0:  # an upload under that name
                quoted = re.sub(r'["\r\n]', "_", name)
                body, head = form("file", chat_lines(1), quoted + ".jsonl", purpose="batch")
                got = lines[number].call("POST", "/v1/files", body, head)
                self.assertIn(got[0], (200, 400), (name, got))
                if got[0] == 200:
                    taken.append(json.loads(got[2]))
                return
            method, pattern = patterns[i % len(patterns)]
            safe = string.ascii_letters + string.digits + "._~-/%" * (i % 2) + "@:!$&'()*+,;="
            path = re.sub(r"\{\w+\}", lambda _: "".join(
                c if c in safe else "".join(f"%{b:02x}" for b in c.encode())
                for c in name), pattern)
            body, head = body_of(method, pattern, name)
            got = lines[number].call(method, path, body, head)
            self.assertIn(got[0], (400, 404, 405), (method, path, got))
        in_threads(len(lines), one, enumerate(names))
        for line in lines:
            line.close()
        self.assertGreater(len(taken), 800)
        self.assertEqual([p for p in tree(self.dir) if not p.startswith(daemon.data)], before)
        known = re.compile(r"files(/[0-9a-f]{2}(/(file-|part_)[0-9a-f]{32})?)?$|ledger\.db(-wal)?$")
        for path in tree(daemon.data):
            inside = os.path.relpath(path, daemon.data)
            self.assertTrue(path in top or known.match(inside), inside)
        # A name is data: it comes back as it was, whatever it says.
        listed = {x["id"]: x for x in daemon.api.want(200, "GET", "/v1/files")["data"]}
        self.assertEqual(len(listed), len(taken))
        for file in taken:
            self.assertEqual(listed[file["id"]]["filename"], file["filename"])
        daemon.stop()
        daemon.start()
        self.assertEqual(len(daemon.api.want(200, "GET", "/v1/files")["data"]), len(taken))


class S6JsonBombs(Keyed):
    limit = 120

    def bombs(self):
        deep = 1 << 20
        return {
            "open arrays": b"[" * deep, "open objects": b'{"a":' * deep,
            "closed arrays": b"[" * deep + b"]" * deep,
            "closed objects": b'{"a":' * deep + b"1" + b"}" * deep,
            "mixed": b'[{"a":' * (deep // 2) + b"1" + b"}]" * (deep // 2),
            "members": b"{" + b",".join(b'"k%d":%d' % (i, i) for i in range(300000)) + b"}",
            "same member": b"{" + b",".join([b'"k":1'] * 500000) + b"}",
            "elements": b"[" + b",".join([b"1"] * (4 << 20)) + b"]",
            "digits": b"1" * (8 << 20), "exponent": b"1e" + b"9" * (1 << 20),
            "escapes": b'"' + b"\\u0041" * (1 << 20) + b'"',
            "surrogates": b'"' + b"\\ud800" * (1 << 18) + b'"',
            "open string": b'"' + b"x" * (16 << 20),
            "blanks": b" " * (16 << 20), "nuls": b"\0" * (1 << 20),
            "long key": b'{"' + b"k" * (8 << 20) + b'":1}',
        }

    def test_bombs_in_lines_and_bodies_are_refused_in_bounded_memory(self):
        upstream, daemon = self.gated()
        daemon.api.wait(daemon.api.submit(chat_lines(100)), "completed")
        before = peak_kib(daemon.proc.pid)
        head, tail = chat_line(0)[:-1].rsplit(b'"body": ', 1)[0] + b'"body": ', b"}"
        seen = len(upstream.seen)
        for name, bomb in self.bombs().items():
            batch = daemon.api.wait(daemon.api.submit([bomb, head + bomb + tail]), timeout=60)
            self.assertEqual(batch["status"], "failed", name)
            # Blanks are no line, and an object of many members is a request's good right.
            self.assertEqual({x["line"] for x in batch["errors"]["data"]},
                             {"blanks": {2}, "members": {1}, "long key": {1}}.get(name, {1, 2}),
                             name)
            for path in ("/v1/batches", "/v1/uploads", "/v1/batches/x", "/v1/batches/validate"):
                for text in (bomb[:1 << 19], b'{"metadata":' + bomb[:1 << 19] + b"}", bomb):
                    got = daemon.api.call("POST", path, text, {"Content-Type": "application/json"})
                    self.assertIn(got.status, (400, 404, 405, 413), (name, path, got))
        self.assertEqual(len(upstream.seen), seen)
        # One line's limit for each thread that reads one, and some.
        grown = peak_kib(daemon.proc.pid) - before
        self.assertLess(grown, 300 << 10, f"{grown} KiB more than before")
        daemon.api.wait(daemon.api.submit(chat_lines(3)), "completed")


class S7ZipBombs(Keyed):
    def test_encoded_bodies_are_refused_before_they_are_unpacked(self):
        daemon = self.serve([])
        before = peak_kib(daemon.proc.pid)
        bomb = gzip.compress(b"\0" * (64 << 20), 9)
        body, head = form("file", bomb, "in.jsonl", purpose="batch")
        for coding in ("gzip", "x-gzip", "GZIP", "deflate", "br", "zstd", "compress", "gzip, gzip",
                       "identity, gzip", "unknown"):
            for path, text, more in (("/v1/files", body, head), ("/v1/batches", bomb, {}),
                                     ("/v1/files", gzip.compress(body), head)):
                got = daemon.api.call("POST", path, text, {**more, "Content-Encoding": coding})
                self.assertEqual(got.status, 415, (coding, path, got))
        self.assertLess(peak_kib(daemon.proc.pid) - before, 32 << 10)
        got = daemon.api.call("POST", "/v1/files", body, {**head, "Content-Encoding": "identity"})
        self.assertEqual(got.status, 200)  # bytes that happen to be gzip are bytes
        self.assertEqual(daemon.api.content(got.json["id"]), bomb)

    def test_nothing_encoded_is_asked_of_an_upstream_or_unpacked(self):
        bomb = zlib.compress(b"\0" * (64 << 20), 9)
        upstream = Upstream(lambda _p, _b: (200, {"Content-Type": "application/json",
                                                  "Content-Encoding": "gzip"}, bomb))
        self.addCleanup(upstream.close)
        daemon = self.serve(upstream.url, flags=["--max-attempts", "2"])
        before = peak_kib(daemon.proc.pid)
        batch = daemon.api.wait(daemon.api.submit(chat_lines(3)), "completed")
        self.assertEqual(batch["request_counts"], {"total": 3, "completed": 0, "failed": 3})
        self.assertLess(peak_kib(daemon.proc.pid) - before, 32 << 10)
        for _, head, _ in upstream.seen:
            self.assertIn(head.get("Accept-Encoding", "identity"), ("identity", ""))


class S8HeadersUpstream(Keyed):
    def test_values_of_a_line_never_become_headers_at_the_upstream(self):
        upstream, daemon = self.gated()
        evil = ["\r\nX-Evil: 1", "\nX-Evil: 1", "\rX-Evil: 1", "a\r\n\r\nGET /evil HTTP/1.1\r\n\r\n",
                "\u2028X-Evil: 1", "%0d%0aX-Evil: 1", "\x00X-Evil: 1", "\x0bX-Evil: 1", "\x85X-Evil: 1",
                "嘊嘍X-Evil: 1"]
        daemon.api.wait(daemon.api.submit(chat_lines(1)), "completed")
        usual = sorted(upstream.seen[0][1])
        sent = 0
        for text in evil:
            line = json.loads(chat_line(0))
            line["custom_id"] = line["body"]["model"] = "m" + text
            line["body"]["metadata"] = {"k" + text: text}
            line["body"]["user"] = text
            got = daemon.api.call("POST", "/v1/batches", {
                "input_file_id": daemon.api.upload(json.dumps(line).encode() + b"\n"),
                "endpoint": CHAT, "completion_window": "24h", "metadata": {"k": text, text: "v"}})
            self.assertEqual(got.status, 200, (text, got))
            batch = daemon.api.wait(got.json["id"])
            sent += batch["status"] == "completed"
        self.assertGreater(sent, 5)
        self.assertEqual(len(upstream.seen), 1 + sent)
        for path, head, body in upstream.seen:
            self.assertEqual((path, sorted(head)), (CHAT, usual))
            self.assertNotIn("evil", " ".join(head.values()).lower())
            self.assertEqual(int(head["Content-Length"]), len(body))


class S9FileNames(Keyed):
    def test_hostile_file_names_split_no_header_and_name_no_other_type(self):
        daemon = self.serve([])
        evil = ["a\\r\\nX-Evil: 1", "%0d%0aX-Evil: 1", "a%22; filename=%22b.html", "a; filename=b",
                "<script>alert(1)</script>.html", "x.svg", "../../x", "\u202egnp.jsonl", "é" * 80,
                "a\u2028b", "日本.jsonl", "a'b", "a\\\"b", "con", "a\tb", "\x7f", "\u0085", "a" * 250]
        usual = None
        for name in evil:
            for purpose in ("batch", "user_data"):
                shown = name + (".jsonl" if purpose == "batch" else "")
                body, head = form("file", chat_lines(1), shown, purpose=purpose)
                got = daemon.api.call("POST", "/v1/files", body, head)
                if got.status == 400:
                    continue  # too long, or with a control byte
                self.assertEqual(got.status, 200, (name, got))
                text = raw(daemon.api.host, f"GET /v1/files/{got.json['id']}/content HTTP/1.1\r\n"
                           "Host: x\r\nConnection: close\r\n\r\n".encode())
                lines = text.split(b"\r\n\r\n", 1)[0].split(b"\r\n")
                fields = dict(x.split(b": ", 1) for x in lines[1:])
                names = sorted(k.lower() for k in fields)
                usual = usual or names
                self.assertEqual(names, usual, name)
                where = fields[b"Content-Disposition"]
                self.assertRegex(where, rb'^attachment; filename="[^"\\\x00-\x1f\x7f-\xff]*"'
                                 rb"(; filename\*=UTF-8''[A-Za-z0-9%!#$&+.^_`|~-]+)?$")
                self.assertEqual(fields[b"x-content-type-options"], b"nosniff")
                self.assertEqual(fields[b"content-type"], b"application/jsonl"
                                 if purpose == "batch" else b"application/octet-stream")
        self.assertIsNotNone(usual)


class S10Logs(Keyed):
    cost = 15
    limit = 120

    def test_ten_thousand_hostile_strings_make_one_log_line_an_event(self):
        daemon = self.serve([], flags=["--log-level", "debug"])
        self.add_key(daemon, "k")  # so that wrong keys are hostile strings, too
        rng = random.Random(10)
        fake = "ts=2026-01-01T00:00:00Z lvl=error ev=forged text=owned"
        pieces = ["\n", "\r\n", "\r", "\\n", "%0a", "\x1b[2J", "\x1b]0;x\x07", "\u2028", "\u0085", '"',
                  "' ", " ev=x ", "%s%n%x", "\0", "\x7f", "\\", fake, "é", "\udcff"]
        lines = [Line(daemon.api.host) for _ in range(6)]

        def one(number, i):
            text = "".join(rng.choice(pieces) for _ in range(rng.randint(1, 5)))
            escaped = "".join(f"%{b:02x}" for b in text.encode("utf-8", "surrogateescape"))
            clean = re.sub(r"[\r\n\0]", " ", text).encode("utf-8", "surrogateescape").strip()
            where = i % 4
            if where == 0:
                lines[number].call("GET", f"/v1/{escaped}?{escaped}={escaped}")
            elif where == 1:
                lines[number].call("GET", "/v1/files", None,
                                   {"User-Agent": clean, "Authorization": b"Bearer " + clean,
                                    "OpenAI-Project": clean, "X-Request-Id": clean})
            elif where == 2:
                lines[number].call("POST", "/v1/batches", json.dumps({"input_file_id": text}).encode())
            else:
                lines[number].call("DELETE", f"/v1/files/{escaped}")
        in_threads(len(lines), one, range(10000))
        for line in lines:
            line.close()
        with open(daemon.proc.err, "rb") as f:
            log = f.read()
        self.assertTrue(log.endswith(b"\n"))
        seen = log[:-1].split(b"\n")
        for line in seen:
            self.assertRegex(line, rb"^ts=\d{4}-\d\d-\d\dT[\d:.]+Z lvl=(debug|info|warn|error) "
                             rb"ev=[a-z_.]+( |$)")
            self.assertNotRegex(line, rb"[\x00-\x1f\x7f]")
            self.assertNotIn(b"ev=forged text=owned", re.sub(rb'"(\\.|[^"\\])*"', b"", line))
        answered = [x for x in seen if b" ev=api.answer " in x or b" ev=http.refused " in x]
        ids = [re.search(rb"req=(req_[0-9a-f]{32})", x).group(1) for x in answered]
        self.assertEqual(len(ids), len(set(ids)))
        self.assertGreaterEqual(len(ids), 10000)


def smuggled(canary):
    """Heads and bodies that two parsers may read differently, each with a request hidden in or
    behind it: (name, bytes)."""
    hidden = f"GET /v1/files/{canary} HTTP/1.1\r\nHost: x\r\n\r\n"
    post = "POST /v1/batches HTTP/1.1\r\nHost: x\r\n"
    n = len(hidden)
    found = []

    def case(name, text):
        found.append((name, text.encode("latin-1")))

    for coding in ("chunked", "Chunked", "chunked ", " chunked", "\tchunked", "identity", "gzip, chunked",
               "chunked, identity", "chunked, chunked", "x", "", "chunked;q=1", '"chunked"'):
        case(f"coding {coding!r} with CL", f"{post}Transfer-Encoding: {coding}\r\nContent-Length: 5\r\n\r\n"
             f"0\r\n\r\n{hidden}")
        case(f"CL with coding {coding!r}", f"{post}Content-Length: 5\r\nTransfer-Encoding: {coding}\r\n\r\n"
             f"0\r\n\r\n{hidden}")
        if coding.strip().lower() != "chunked":
            case(f"coding {coding!r} alone", f"{post}Transfer-Encoding: {coding}\r\n\r\n0\r\n\r\n{hidden}")
    for a, b in ((0, n), (n, 0), (5, 5), (n, n), (0, 0)):
        case(f"CL {a} and CL {b}", f"{post}Content-Length: {a}\r\nContent-Length: {b}\r\n\r\n{hidden}")
    for cl in ("+5", "-1", "5,5", "5, 6", "0x5", "5 5", "5;", "", "five", "5.0", "1e1", "٥", "5\t6",
               "18446744073709551616", "99999999999999999999999", "\x0b5", "5\x00", "--5", "5a"):
        text = cl if all(ord(c) < 256 for c in cl) else cl.encode().decode("latin-1")
        case(f"CL {cl!r}", f"{post}Content-Length: {text}\r\n\r\n12345{hidden}")
    for name in ("Content-Length ", " Content-Length", "Content-Length\t", "Content\x00-Length",
                 "Content-Length\x0b", "Transfer-Encoding ", "Transfer\tEncoding", "Transfer-Encoding\x00",
                 "Con tent-Length", "Content-Length\r", "(Content-Length)", "Content-Length:"):
        case(f"name {name!r}", f"{post}{name}: 5\r\n\r\n12345{hidden}")
    for size in ("G", "0x5", "-1", "+5", "5 ", " 5", "5\t", "5;\x00", "ffffffffffffffffff", "", ";x", "5,5",
                 "\x0b5", "5_0", "٥"):
        text = size.encode().decode("latin-1")
        case(f"chunk size {size!r}", f"{post}Transfer-Encoding: chunked\r\n\r\n{text}\r\n12345\r\n"
             f"0\r\n\r\n{hidden}")
    for name, tail in (("chunk longer than said", "3\r\n12345\r\n0\r\n\r\n"),
                       ("chunk shorter than said", "7\r\n12345\r\n0\r\n\r\n"),
                       ("chunk without its CRLF", "5\r\n123450\r\n\r\n"),
                       ("chunk ended by LF CR", "5\r\n12345\n\r0\r\n\r\n"),
                       ("chunk ended by CR", "5\r\n12345\r0\r\n\r\n")):
        case(name, f"{post}Transfer-Encoding: chunked\r\n\r\n{tail}{hidden}")
    for name, head in (("folded header", "X: a\r\n b\r\nContent-Length: 0\r\n"),
                       ("folded length", "Content-Length:\r\n 5\r\n"),
                       ("folded first header", " X: a\r\n"), ("tab folded", "X: a\r\n\tb\r\n"),
                       ("folded coding", "Transfer-Encoding:\r\n chunked\r\n"),
                       ("bare LF", "X: a\nContent-Length: 5\r\n"), ("bare CR", "X: a\rY: b\r\n"),
                       ("LF LF", "X: a\n\n"), ("NUL in a value", "X: a\x00b\r\n"),
                       ("no colon", "Xa\r\n"), ("empty name", ": a\r\n"), ("CR CR LF", "X: a\r\r\n"),
                       ("two hosts", "Host: y\r\n"), ("space before colon", "X : a\r\n"),
                       ("control in a value", "X: a\x01b\r\n"), ("obs-text name", "X\xe9: a\r\n")):
        case(name, f"{post}{head}\r\n{hidden}")
    for name, line in (("no version", "GET /v1/files"), ("HTTP/1.1 twice", "GET / HTTP/1.1 HTTP/1.1"),
                       ("two spaces", "GET  /v1/files HTTP/1.1"), ("tab", "GET\t/v1/files\tHTTP/1.1"),
                       ("HTTP/2.0", "GET /v1/files HTTP/2.0"), ("lower case", "GET /v1/files http/1.1"),
                       ("HTTP/1.10", "GET /v1/files HTTP/1.10"), ("bad method", "GE(T /v1/files HTTP/1.1"),
                       ("NUL in the target", "GET /v1/\x00files HTTP/1.1"),
                       ("control in the target", "GET /v1/\x01files HTTP/1.1"),
                       ("bad escape", "GET /v1/%zz HTTP/1.1"), ("no slash", "GET v1/files HTTP/1.1")):
        case(name, f"{line}\r\nHost: x\r\n\r\n{hidden}")
    case("no host", f"GET /v1/files HTTP/1.1\r\n\r\n{hidden}")
    case("bare LF everywhere", f"{post}Content-Length: 0\r\n\r\n".replace("\r\n", "\n") + hidden)
    case("coding in HTTP/1.0", "POST /v1/batches HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
         f"0\r\n\r\n{hidden}")
    return found


class S11Smuggling(Keyed):
    limit = 150
    cost = 20

    def test_what_two_parsers_may_read_differently_is_refused_and_closed(self):
        daemon = self.serve([])
        canary = "file-" + secrets.token_hex(16)
        cases = smuggled(canary)
        self.assertGreaterEqual(len(cases), 100)
        lock, wrong = threading.Lock(), []

        def one(_number, item):
            name, text = item
            got = raw(daemon.api.host, text)  # to the end: it is the server that closes
            answers = re.findall(rb"HTTP/1\.[01] (\d{3}) [A-Z]", got)
            # Nothing at all is a refusal as well.  (libmicrohttpd 0.9.75 sends the head of a
            # refusal of its own twice; what matters is that nothing else is answered.)
            fine = len(set(answers)) <= 1 and canary.encode() not in got and \
                all(x[:1] in b"45" for x in answers)
            if not fine:
                with lock:
                    wrong.append((name, answers, got[:300]))
        in_threads(6, one, cases)
        self.assertEqual(wrong, [], f"{len(wrong)} of {len(cases)}")
        # The same connection may carry what nobody can read differently.
        text = (f"GET /v1/files HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/files/{canary} HTTP/1.1\r\n"
                "Host: x\r\nConnection: close\r\n\r\n").encode()
        got = raw(daemon.api.host, text)
        self.assertEqual(re.findall(rb"HTTP/1\.1 (\d{3}) [A-Z]", got), [b"200", b"404"])
        self.assertIn(canary.encode(), got)


class S12SlowSenders(Keyed):
    limit = 100
    cost = 45

    def test_slow_heads_and_bodies_are_cut_and_others_are_served(self):
        daemon = self.serve([], flags=["--client-timeout", "5s"])
        host, port = daemon.api.host.rsplit(":", 1)
        ends = {}

        def slow(name, start, drip, pause):
            """Sends start, then drip again and again; how long it was let to."""
            began = time.monotonic()
            with socket.create_connection((host, int(port)), timeout=2) as s:
                s.sendall(start)
                s.settimeout(pause)
                got = b""
                while time.monotonic() - began < 80 * SLOWER:
                    try:
                        piece = s.recv(4096)
                        if not piece:
                            break
                        got += piece
                    except TimeoutError:
                        try:
                            s.sendall(drip)
                        except OSError:
                            break
                    except OSError:
                        break
            ends[name] = time.monotonic() - began, got
        head = b"POST /v1/batches HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
        kinds = {"silent": (b"", b"", 0.5), "half a line": (b"GET /v1/fi", b"", 0.5),
                 "head by bytes": (b"GET / HTTP/1.1\r\nX: ", b"a", 0.5),
                 "silent body": (head, b"", 0.5), "body by bytes": (head, b"x", 0.5),
                 "chunks by bytes": (b"POST /v1/batches HTTP/1.1\r\nHost: x\r\n"
                                     b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 0.5)}
        threads = [threading.Thread(target=slow, args=((kind, i), *how))
                   for kind, how in kinds.items() for i in range(20)]
        for t in threads:
            t.start()
        served = 0
        while any(t.is_alive() for t in threads):
            self.assertEqual(daemon.api.call("GET", "/v1/files").status, 200)
            served += 1
            time.sleep(0.1)
        self.assertGreater(served, 20)
        self.assertEqual(len(ends), len(threads))
        # Heads have 10 s, a body that stands still the client timeout, one that drips 30 s.
        most = {"silent": 25, "half a line": 25, "head by bytes": 25, "silent body": 25,
                "body by bytes": 60, "chunks by bytes": 60}
        for (kind, _), (seconds, got) in ends.items():
            self.assertLess(seconds, most[kind] * SLOWER, kind)
            self.assertNotIn(b" 200 ", got)
        for kind in ("head by bytes", "body by bytes", "chunks by bytes"):
            told = [got for (k, _), (_, got) in ends.items() if k == kind]
            self.assertTrue(any(b" 408 " in x and b"request_timeout" in x for x in told), kind)
        until("all connections to be gone", lambda: daemon.api.call("GET", "/healthz").status == 200)

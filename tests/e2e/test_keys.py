# SPDX-License-Identifier: Apache-2.0
"""API keys beside a running server, and what a project may use at a time."""

import http.client
import os
import threading

from harness import CHAT, Api, E2E, chat_lines, until
from upstream import Upstream, ok

KEY = r"^sk-batchd-[0-9a-f]{16}-[0-9a-f]{64}\n$"


class Keys(E2E):
    def key(self, data, *args, want=0):
        status, out, err = self.program("key", *args, "--data-dir", data)
        self.assertEqual(status, want, err)
        return out, err

    def test_a_key_is_printed_once_and_opens_the_api_until_it_is_revoked(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        self.assertEqual(daemon.api.call("GET", "/v1/files").status, 200)
        key, told = self.key(daemon.data, "add", "alice")
        self.assertRegex(key, KEY)
        self.assertIn("only time", self.one_sentence(told))
        self.assertEqual(daemon.api.call("GET", "/v1/files").status, 401)
        daemon.api.key = key.strip()
        data = chat_lines(20)
        batch_id = daemon.api.submit(data)
        self.finished(daemon, batch_id, data, sim)
        listed, _ = self.key(daemon.data, "list")
        self.assertRegex(listed, r"^[0-9a-f]{16}\talice\tdefault\t\d{4}-\d\d-\d\dT\S+Z\t-\n$")
        self.assertNotIn(key.strip()[27:], listed)
        self.key(daemon.data, "revoke", "alice")
        got = daemon.api.call("GET", f"/v1/batches/{batch_id}")
        self.assertEqual((got.status, got.error["code"]), (401, "invalid_api_key"))
        self.assertEqual(daemon.api.call("GET", "/healthz").status, 200)
        self.assertEqual(daemon.api.call("GET", "/readyz").status, 200)

    def test_streams_that_are_open_end_with_their_key(self):
        upstream = Upstream(ok(b'{"object":"x"}'))
        self.addCleanup(upstream.close)
        upstream.gate.clear()
        daemon = self.serve(upstream.url)
        key, _ = self.key(daemon.data, "add", "alice")
        other, _ = self.key(daemon.data, "add", "bob")
        daemon.api.key = key.strip()
        batch_id = daemon.api.submit(chat_lines(3))
        daemon.api.wait(batch_id, "in_progress")
        ended = []

        def watch(rest):
            try:
                got = daemon.api.call("GET", f"/v1/batches/{batch_id}/{rest}", timeout=30)
                ended.append((rest, "whole", got.status))
            except http.client.IncompleteRead:
                ended.append((rest, "cut", None))
        threads = [threading.Thread(target=watch, args=(x,))
                   for x in ("events", "results?follow=1")]
        for t in threads:
            t.start()
        threads[0].join(1.5)
        self.assertEqual(ended, [])
        self.key(daemon.data, "revoke", "alice")
        for t in threads:
            t.join(10)
        self.assertEqual(sorted(x[:2] for x in ended),
                         [("events", "cut"), ("results?follow=1", "cut")])
        upstream.gate.set()
        daemon.api.key = other.strip()
        daemon.api.wait(batch_id, "completed")

    def test_keys_made_before_the_first_start_count_from_the_first_call_on(self):
        data = os.path.join(self.dir, "new")
        key, _ = self.key(data, "add", "first", "--project", "team-a")
        self.assertEqual(os.stat(data).st_mode & 0o777, 0o700)
        daemon = self.serve([], data=data)
        self.assertEqual(daemon.api.call("GET", "/v1/batches").status, 401)
        daemon.api.key = key.strip()
        self.assertEqual(daemon.api.call("GET", "/v1/batches").status, 200)
        daemon.kill9()
        daemon.start()
        daemon.api.key = key.strip()
        self.assertEqual(daemon.api.call("GET", "/v1/batches").status, 200)

    def test_mistakes_are_told_in_one_sentence_and_change_nothing(self):
        data = os.path.join(self.dir, "new")
        self.key(data, "add", "alice")
        before = self.key(data, "list")[0]
        for args, status, says in (
                (("add",), 2, "needs the name"), (("add", "alice"), 2, "already"),
                (("add", "a b"), 2, "'a b'"), (("add", "bob", "--project", "A"), 2, "'A'"),
                (("revoke", "nobody"), 2, "'nobody'"), (("revoke",), 2, "needs the name"),
                (("list", "x"), 2, "no argument"), (("show",), 2, "'show'"),
                (("list", "--project", "x"), 2, "--project")):
            _, err = self.key(data, *args, want=status)
            self.assertIn(says, self.one_sentence(err))
        self.assertEqual(self.key(data, "list")[0], before)
        with open(os.path.join(self.dir, "file"), "w", encoding="ascii"):
            pass
        self.key(self.dir, "add", "x", want=73)  # not a data directory
        self.key(os.path.join(self.dir, "none"), "list", want=73)
        self.key(os.path.join(data, "keys"), "list", want=73)

    def test_beyond_loopback_the_server_wants_a_key_to_be_there(self):
        data = os.path.join(self.dir, "new")
        status, _, err = self.program("serve", "--listen", "0.0.0.0:0", "--data-dir", data)
        self.assertEqual(status, 2)
        self.assertIn("batchd key add", self.one_sentence(err))
        key, _ = self.key(data, "add", "alice")
        proc = self.background("serve", "--listen", "0.0.0.0:0", "--data-dir", data)
        port = proc.ready(r"http://0\.0\.0\.0:(\d+)").group(1)
        api = Api(f"http://127.0.0.1:{port}")
        self.assertEqual(api.call("GET", "/v1/files").status, 401)
        api.key = key.strip()
        self.assertEqual(api.call("GET", "/v1/files").status, 200)
        self.assertEqual(proc.term(), 0)
        self.assertNotIn("insecure", proc.errors())

    def test_a_damaged_keys_file_shuts_the_api_and_a_mended_one_opens_it(self):
        daemon = self.serve([])
        key, _ = self.key(daemon.data, "add", "alice")
        daemon.api.key = key.strip()
        self.assertEqual(daemon.api.call("GET", "/v1/files").status, 200)
        path = os.path.join(daemon.data, "keys")
        with open(path, "rb") as f:
            good = f.read()
        for bad, says in ((b"", "line 1"), (good[:-1], "ends early"),
                          (good.replace(b"default", b"defaulx"), "damaged")):
            with open(path, "wb") as f:
                f.write(bad)
            for _ in range(3):
                self.assertEqual(daemon.api.call("GET", "/v1/files").status, 503)
            self.assertEqual(daemon.api.call("GET", "/readyz").status, 503)
            self.assertIn(says, self.key(daemon.data, "add", "bob", want=73)[1])
        with open(path, "wb") as f:
            f.write(good)
        self.assertEqual(daemon.api.call("GET", "/v1/files").status, 200)
        told = [x for x in daemon.proc.errors().splitlines() if "ev=keys.unusable" in x]
        self.assertEqual(len(told), 3, told)  # each once, not with each call
        self.assertNotIn(key.strip()[27:], daemon.proc.errors())


class Limits(E2E):
    cost = 3

    def gated(self, *flags):
        upstream = Upstream(ok(b'{"object":"x"}'))
        self.addCleanup(upstream.close)
        upstream.gate.clear()
        return upstream, self.serve(upstream.url, flags=["--max-inflight", "4", *flags])

    def test_lines_beyond_the_projects_limit_fail_the_batch_and_fit_later(self):
        upstream, daemon = self.gated("--project-lines", "100")
        first = daemon.api.submit(chat_lines(60))
        upstream.arrived(4)
        over = daemon.api.wait(daemon.api.submit(chat_lines(41)), "failed")
        error = over["errors"]["data"]
        self.assertEqual([x["code"] for x in error], ["token_limit_exceeded"])
        self.assertIn("Limit: 100 enqueued requests, of which 60 are in use", error[0]["message"])
        self.assertEqual((error[0]["param"], error[0]["line"]), (None, None))
        fits = daemon.api.submit(chat_lines(40))
        daemon.api.wait(fits, "in_progress")
        daemon.api.wait(daemon.api.submit(chat_lines(1)), "failed")
        upstream.gate.set()
        for batch_id, n in ((first, 60), (fits, 40)):
            self.finished(daemon, batch_id, chat_lines(n))
        again = daemon.api.submit(chat_lines(100))
        self.finished(daemon, again, chat_lines(100))

    def test_of_batches_made_at_the_same_instant_as_many_get_in_as_fit(self):
        upstream, daemon = self.gated("--project-lines", "100", "--workers", "4")
        file_id = daemon.api.upload(chat_lines(30))
        ids, threads = [], []
        for _ in range(8):
            threads.append(threading.Thread(
                target=lambda: ids.append(daemon.api.create(file_id)["id"])))
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        ended = [daemon.api.wait(x, ("in_progress", "failed"))["status"] for x in ids]
        self.assertEqual(sorted(ended), ["failed"] * 5 + ["in_progress"] * 3)
        upstream.gate.set()
        for batch_id, status in zip(ids, ended):
            if status == "in_progress":
                daemon.api.wait(batch_id, "completed")

    def test_after_a_restart_lines_that_are_done_take_no_room(self):
        opened = threading.Event()
        self.addCleanup(opened.set)

        def answer(_path, body):
            if int(body.split(b"line ")[1].split(b'"')[0]) >= 40:
                opened.wait()
            return 200, {"Content-Type": "application/json"}, b'{"object":"x"}'
        upstream = Upstream(answer)
        self.addCleanup(upstream.close)
        daemon = self.serve(upstream.url, flags=["--project-lines", "100"])
        first = daemon.api.submit(chat_lines(80))
        until("40 lines on disk",
              lambda: daemon.api.get(first)["request_counts"]["completed"] == 40)
        daemon.restart()  # 40 of 80 are done: 60 fit beside the others, 61 do not
        fits = daemon.api.submit(chat_lines(60, 100))
        daemon.api.wait(fits, "in_progress", patient=True)
        over = daemon.api.wait(daemon.api.submit(chat_lines(1)), "failed", patient=True)
        self.assertEqual(over["errors"]["data"][0]["code"], "token_limit_exceeded")
        opened.set()
        self.finished(daemon, first, chat_lines(80))
        self.finished(daemon, fits, chat_lines(60, 100))

    def test_batches_beyond_the_projects_limit_are_refused_and_sdks_do_not_insist(self):
        upstream, daemon = self.gated("--project-batches", "2")
        file_id = daemon.api.upload(chat_lines(3))
        first, _ = daemon.api.create(file_id), daemon.api.create(file_id)
        got = daemon.api.call("POST", "/v1/batches", {
            "input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"})
        self.assertEqual((got.status, got.error["type"], got.error["code"]),
                         (429, "rate_limit_error", "batch_limit_exceeded"))
        self.assertIn("2", got.error["message"])
        self.assertEqual(got.headers.get("x-should-retry"), "false")
        self.assertEqual(len(daemon.api.want(200, "GET", "/v1/batches")["data"]), 2)
        daemon.api.cancel(first["id"])
        upstream.gate.set()
        daemon.api.wait(first["id"])
        daemon.api.wait(daemon.api.create(file_id)["id"], "completed")

    def test_each_project_has_its_own_limits(self):
        upstream = Upstream(ok(b'{"object":"x"}'))
        self.addCleanup(upstream.close)
        upstream.gate.clear()
        daemon = self.serve(upstream.url, config=(
            "[limits]\nproject_inflight = 3\nproject_lines = 100\nproject_batches = 2\n"
            "[project small]\nmax_inflight = 1\nmax_lines = 5\nmax_batches = 1\n"))
        apis = {}
        for project in ("default", "small", "other"):
            status, key, _ = self.program("key", "add", project, "--project", project,
                                          "--data-dir", daemon.data)
            self.assertEqual(status, 0)
            apis[project] = Api(daemon.api.base, daemon.watch, key.strip())
        apis["small"].wait(apis["small"].submit(chat_lines(6)), "failed")
        for n, (project, api) in enumerate(apis.items()):
            api.wait(api.submit(chat_lines(5, 1000 * n)), "in_progress")
        upstream.arrived(7)
        threading.Event().wait(0.3)  # and not one more
        by_project = [sum(b"line %d" % n in x[2] for x in upstream.seen)
                      for n in (100, 200)]
        self.assertEqual(len(upstream.seen), 3 + 1 + 3)
        self.assertEqual(by_project, [1, 3])
        upload = apis["small"].upload(chat_lines(1))
        got = apis["small"].call("POST", "/v1/batches", {
            "input_file_id": upload, "endpoint": CHAT, "completion_window": "24h"})
        self.assertEqual(got.status, 429, got)
        apis["other"].submit(chat_lines(1))  # nobody else's batches count
        upstream.gate.set()
        for api in apis.values():
            for batch in api.want(200, "GET", "/v1/batches")["data"]:
                api.wait(batch["id"], ("completed", "failed"))
        metrics = daemon.api.call("GET", "/metrics").body
        self.assertNotIn(b"small", metrics)  # it names no project

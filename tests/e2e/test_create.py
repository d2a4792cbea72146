# SPDX-License-Identifier: Apache-2.0
"""How batches are made, with a real store under it: keys, requests in the body, dry runs."""

import json
import os
import threading

import checker
from harness import CHAT, E2E, Refused, chat_line, chat_lines, until
from upstream import Upstream, ok


def requests(n, **more):
    return [{"custom_id": f"c-{i}", "body": {
        "model": "sim-model", "messages": [{"role": "user", "content": f"line {i}"}],
        **more}} for i in range(n)]


class Create(E2E):
    cost = 3

    def post(self, daemon, body, want=200, key=None, path="/v1/batches"):
        head = {"Idempotency-Key": key} if key else {}

        def ask():  # like an SDK: what is being recovered after a restart is asked again
            got = daemon.api.call("POST", path, body, head)
            return None if got.status == 503 else got
        got = until("another answer than 503", ask)
        if got.status != want:
            raise Refused(f"POST {path}, want {want}", got)
        return got.json

    def inline(self, daemon, want=200, key=None, **body):
        return self.post(daemon, {"endpoint": CHAT, "completion_window": "24h", **body}, want, key)

    # Idempotency-Key

    def at_once(self, daemon, n, body, key):
        """n threads create with one key; the answers."""
        answers, gate = [], threading.Barrier(n)

        def one():
            gate.wait()
            answers.append(self.post(daemon, body, key=key))
        threads = [threading.Thread(target=one) for _ in range(n)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(len(answers), n, "some were refused")
        return answers

    def test_fifty_at_once_with_one_key_make_one_batch(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        body = {"input_file_id": daemon.api.upload(chat_lines(20)), "endpoint": CHAT,
                "completion_window": "24h"}
        ids = {x["id"] for x in self.at_once(daemon, 50, body, "one")}
        self.assertEqual(len(ids), 1)
        self.assertEqual([x["id"] for x in daemon.api.want(200, "GET", "/v1/batches")["data"]],
                         list(ids))
        daemon.api.wait(ids.pop(), "completed")
        self.assertEqual(len(sim.oracle().rows), 20)

    def test_of_fifty_with_their_requests_one_file_stays(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        body = {"requests": requests(5), "endpoint": CHAT, "completion_window": "24h"}
        answers = self.at_once(daemon, 50, body, "two")
        self.assertEqual(len({x["id"] for x in answers}), 1)
        files = daemon.api.want(200, "GET", "/v1/files?purpose=batch")["data"]
        self.assertEqual([x["id"] for x in files], [answers[0]["input_file_id"]])
        daemon.api.wait(answers[0]["id"], "completed")

    def test_a_key_holds_over_kills_and_for_its_request_alone(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        body = {"input_file_id": daemon.api.upload(chat_lines(3)), "endpoint": CHAT,
                "completion_window": "24h"}
        made = set()
        for i in range(4):
            made.add(self.post(daemon, body, key="k-1")["id"])
            daemon.restart()
            other = self.post(daemon, {**body, "metadata": {"i": str(i)}}, want=422, key="k-1")
            self.assertEqual(other["error"]["code"], "idempotency_key_reused")
        self.assertEqual(len(made), 1)
        daemon.api.wait(made.pop(), "completed", patient=True)

    def test_a_create_that_a_kill_cut_off_is_made_once_by_its_second_try(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        for i in range(8):
            api, body = daemon.api, {"requests": requests(50), "endpoint": CHAT,
                                     "completion_window": "24h", "metadata": {"n": str(i)}}

            def first(api=api, body=body, i=i):
                try:
                    api.call("POST", "/v1/batches", body, {"Idempotency-Key": f"try-{i}"})
                except OSError:
                    pass
            sender = threading.Thread(target=first)
            sender.start()
            if i % 2:
                sender.join(0.002 * i)
            daemon.kill9()
            sender.join()
            daemon.start()
            batch = self.post(daemon, body, key=f"try-{i}")
            daemon.api.wait(batch["id"], "completed", patient=True)
            mine = [x for x in daemon.api.want(200, "GET", "/v1/batches?limit=100")["data"]
                    if x["metadata"] == {"n": str(i)}]
            self.assertEqual([x["id"] for x in mine], [batch["id"]])

    # Requests in the body

    def test_requests_in_the_body_run_like_a_file(self):
        upstream = Upstream(ok(b'{"object":"x"}'))
        self.addCleanup(upstream.close)
        daemon = self.serve(upstream.url)
        raw = (b'{"requests" : [{"custom_id":"a","body":{"x":1.10,\n"big":12345678901234567890,'
               b'"u":"\\u00e9\\/"}} , {"custom_id":"b","method":"POST",'
               b'"url":"/v1/chat/completions","body":{}}],'
               b'"endpoint":"/v1/chat/completions","completion_window":"24h"}')
        batch = daemon.api.want(200, "POST", "/v1/batches", raw)
        batch = daemon.api.wait(batch["id"], "completed")
        self.assertEqual(sorted(upstream.bodies()), sorted(
            [b'{"x":1.10,"big":12345678901234567890,"u":"\\u00e9\\/"}', b"{}"]))
        data = daemon.api.content(batch["input_file_id"])
        checker.check_batch(daemon.api, batch, data)
        self.assertEqual([x.number for x in checker.input_lines(data)], [1, 2])

    def test_bad_requests_are_told_by_their_place(self):
        daemon = self.serve(self.sim().url)
        lines = requests(4)
        lines[1]["custom_id"] = "c-0"
        lines[2] = "no object"
        lines[3]["url"] = "/v1/embeddings"
        batch = daemon.api.wait(self.inline(daemon, requests=lines)["id"], "failed")
        self.assertEqual([(x["line"], x["code"]) for x in batch["errors"]["data"]],
                         [(2, "duplicate_custom_id"), (3, "invalid_json_line"),
                          (4, "invalid_url")])

    def test_what_is_no_batch_is_refused_and_leaves_nothing(self):
        daemon = self.serve(self.sim().url, flags=["--max-inline-size", "2M"])
        before = daemon.api.want(200, "GET", "/v1/files")["data"]

        def refused(param, status=400, **body):
            got = self.inline(daemon, want=status, **body)
            self.assertEqual(got["error"]["param"], param)
        refused("requests", requests=requests(1), input_file_id="file-x")
        refused("requests", requests=[])
        refused("requests", requests="x")
        refused("input_file_id", requests=None)
        refused("endpoint", requests=requests(1), endpoint="/v1/nothing")
        refused("sample", requests=requests(1), sample=0)
        refused("callback_url", requests=requests(1), callback_url="https://example.com/")
        refused(None, status=413, requests=requests(1, pad="x" * (2 << 20)))
        self.assertEqual(daemon.api.want(200, "GET", "/v1/files")["data"], before)
        self.assertEqual(daemon.api.want(200, "GET", "/v1/batches")["data"], [])
        self.inline(daemon, requests=requests(1, pad="x" * 1_900_000))

    # Dry runs

    def test_a_dry_run_says_what_the_batch_will(self):
        daemon = self.serve(self.sim().url)
        good = chat_lines(30)
        bad = b"\n".join([chat_line(0), b"no json", b"", chat_line(0), chat_line(2, stream=True),
                          chat_line(3).replace(b"sim-model", b"other-model")]) + b"\n"
        for data in (good, bad, b"", b"\n \n"):
            file_id = daemon.api.upload(data or b" ")
            said = self.post(daemon, {"input_file_id": file_id, "endpoint": CHAT},
                             path="/v1/batches/validate")
            batch = daemon.api.wait(daemon.api.create(file_id)["id"])
            self.assertEqual(said["valid"], batch["status"] == "completed")
            self.assertEqual(said["errors"], batch["errors"])
            if said["valid"]:
                self.assertEqual(said["model"], batch["model"])
                self.assertEqual(said["request_counts"]["total"],
                                 batch["request_counts"]["total"])

    def test_a_dry_run_estimates_and_leaves_nothing(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        before = checker.state_of(daemon.data)
        said = self.post(daemon, {"requests": requests(10, max_tokens=8), "endpoint": CHAT},
                         path="/v1/batches/validate")
        each = len(json.dumps(requests(1)[0]["body"]["messages"]))
        self.assertEqual(said["estimate"]["input_bytes"], 10 * each)
        self.assertEqual(said["estimate"]["input_tokens"], 10 * ((each + 3) // 4))
        self.assertEqual(said["estimate"]["max_output_tokens"], 80)
        self.assertEqual(said["models"],
                         [{"model": "sim-model", "requests": 10, "known": True}])
        self.assertEqual(checker.state_of(daemon.data), before)
        self.assertEqual(sim.oracle().rows, [])

    def test_many_dry_runs_at_once_leave_room_for_others(self):
        daemon = self.serve(self.sim().url)
        file_id = daemon.api.upload(chat_lines(40000))
        got, gate = [], threading.Barrier(12)

        def one():
            gate.wait()
            got.append(daemon.api.call("POST", "/v1/batches/validate", {
                "input_file_id": file_id, "endpoint": CHAT}))
        threads = [threading.Thread(target=one) for _ in range(12)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual({x.status for x in got} - {200, 503}, set())
        self.assertGreaterEqual(sum(x.status == 200 for x in got), 2)
        for x in got:
            if x.status == 503:
                self.assertEqual((x.error["code"], x.headers["retry-after"]),
                                 ("server_busy", "1"))
            else:
                self.assertTrue(x.json["valid"])

    def test_check_estimates_the_tokens(self):
        self.path("in.jsonl", b"".join(chat_line(i, max_tokens=10) + b"\n" for i in range(3)))
        status, out, err = self.program("check", "in.jsonl")
        self.assertEqual((status, out), (0, ""), err)
        self.assertRegex(err, r"3 requests, all good; about \d+ tokens in, at most 30 out")
        self.path("in.jsonl", chat_line(0).replace(b'"max_tokens": 8', b'"x": 8') + b"\n")
        status, _, err = self.program("check", "in.jsonl")
        self.assertEqual(status, 0)
        self.assertIn("no limit on those out in 1", err)
        self.assertFalse(os.path.exists(self.path("batchd-data")))

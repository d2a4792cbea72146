# SPDX-License-Identifier: Apache-2.0
"""Lines of a batch that ask the same: one call, whose answer each of them gets; whatever
happens in between, none is lost, doubled or sent without need."""

import collections
import json
import random
import re
import time

from harness import E2E, chat_line
from upstream import Upstream

EMBEDDINGS = "/v1/embeddings"


def embedding(i, text, **more):
    return json.dumps({"custom_id": f"c-{i}", "method": "POST", "url": EMBEDDINGS,
                       "body": {"model": "sim-model", "input": text, **more}}).encode()


def with_equals(n, share, seed=7):
    """n embedding lines; so many of each hundred repeat an earlier one.  And how many differ."""
    rng = random.Random(seed)
    texts, lines = [], []
    for i in range(n):
        if texts and rng.randrange(100) < share:
            text = rng.choice(texts)
        else:
            text = f"text {i}"
            texts.append(text)
        lines.append(embedding(i, text, user=f"someone {i}"))
    return b"".join(x + b"\n" for x in lines), len(texts)


def metric(daemon, name):
    text = daemon.api.call("GET", "/metrics").body.decode()
    return float(re.search(rf"^{name} (\S+)$", text, re.M).group(1))


class Dedup(E2E):
    cost = 6
    limit = 120

    def upstream(self, answer):
        up = Upstream(answer)
        self.addCleanup(up.close)
        return up

    def test_there_is_one_call_for_each_that_differs(self):
        for share in (0, 10, 50):
            with self.subTest(share):
                sim = self.sim()
                daemon = self.serve(sim.url)
                data, differ = with_equals(2000, share)
                batch = daemon.api.submit(data, EMBEDDINGS)
                report = self.finished(daemon, batch, data, sim)
                self.assertEqual(len(report.output), 2000)
                self.assertEqual(len(sim.oracle().rows), differ)
                self.assertEqual(len(report.leaders), 2000 - differ)
                self.assertEqual(metric(daemon, "batchd_lines_deduplicated_total"),
                                 2000 - differ)
                daemon.stop()

    def test_chats_share_an_answer_only_when_they_are_told_to_and_draw_nothing(self):
        lines = [chat_line(i, "the same", temperature=0) for i in range(40)]
        lines += [chat_line(i, "the same", temperature=1) for i in range(40, 60)]
        lines += [chat_line(i, "the same") for i in range(60, 80)]
        data = b"".join(x + b"\n" for x in lines)
        for mode, calls in (("off", 80), ("embeddings", 80), ("deterministic", 41)):
            with self.subTest(mode):
                sim = self.sim()
                daemon = self.serve(sim.url, flags=["--dedup", mode])
                report = self.finished(daemon, daemon.api.submit(data), data, sim)
                self.assertEqual(len(report.output), 80)
                self.assertEqual(len(sim.oracle().rows), calls)
                daemon.stop()

    def test_batches_share_nothing(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        data = b"".join(embedding(i, "one text") + b"\n" for i in range(5))
        for _ in range(3):
            self.finished(daemon, daemon.api.submit(data, EMBEDDINGS), data, sim)
        self.assertEqual(len(sim.oracle().rows), 3)

    def test_what_is_refused_is_refused_for_all(self):
        sim = self.sim("--fault", "400=1")
        daemon = self.serve(sim.url)
        data = b"".join(embedding(i, f"text {i % 3}") + b"\n" for i in range(30))
        report = self.finished(daemon, daemon.api.submit(data, EMBEDDINGS), data, sim)
        self.assertEqual(report.codes, {"400": 30})
        self.assertEqual(len(sim.oracle().rows), 3)

    def test_without_a_usable_answer_each_is_tried_by_itself(self):
        calls = collections.Counter()

        def answer(_path, body):
            text = json.loads(body)["input"]
            calls[text] += 1
            if text == "bad" and calls[text] <= 3:  # all tries of the first line
                return 500, {"Content-Type": "application/json"}, b'{"error":"x"}'
            return 200, {"Content-Type": "application/json"}, b'{"data":[]}'
        up = self.upstream(answer)
        daemon = self.serve(up.url, flags=["--max-attempts", "3"])
        data = b"".join(embedding(i, "bad" if i % 2 else f"good {i % 10}") + b"\n"
                        for i in range(40))
        report = self.finished(daemon, daemon.api.submit(data, EMBEDDINGS), data)
        self.assertEqual(list(report.errors), ["c-1"])
        self.assertEqual(len(report.output), 39)
        self.assertEqual(calls, {"bad": 3 + 19, **{f"good {i}": 1 for i in (0, 2, 4, 6, 8)}})

    def test_kills_between_an_answer_and_its_followers_cost_no_call(self):
        rng = random.Random(3)
        sim = self.sim("--latency", "1ms-20ms", "--fault", "500=2%,reset=2%")
        daemon = self.serve(sim.url, flags=["--max-inflight", "8"])
        data, differ = with_equals(6000, 80)
        batch = daemon.api.submit(data, EMBEDDINGS)
        for _ in range(10):
            time.sleep(rng.choice([0.0, 0.05, 0.2]))
            daemon.restart()
        daemon.api.wait(batch, "completed", timeout=60, patient=True)
        report = self.finished(daemon, batch, data, sim)
        self.assertEqual(len(report.output), 6000)
        self.assertEqual(len(report.leaders), 6000 - differ)

    def test_what_a_kill_cut_off_is_made_up_for(self):
        # One leader with very many followers: a kill comes while they are served.
        sim = self.sim("--embedding-dim", 400)
        daemon = self.serve(sim.url)
        data = b"".join(embedding(i, "one text") + b"\n" for i in range(20000))
        batch = daemon.api.submit(data, EMBEDDINGS)
        for _ in range(4):
            while not daemon.api.wait(batch, ("in_progress", "completed"),
                                      patient=True)["request_counts"]["completed"]:
                time.sleep(0.001)
            daemon.restart()
        daemon.api.wait(batch, "completed", timeout=60, patient=True)
        report = self.finished(daemon, batch, data, sim)
        self.assertEqual(len(report.output), 20000)
        self.assertEqual(len(report.leaders), 19999)

    def test_a_cancel_ends_those_whose_leader_has_no_answer(self):
        up = self.upstream(lambda _path, _body: (200, {}, b'{"data":[]}'))
        daemon = self.serve(up.url, flags=["--max-inflight", "2"])
        data = b"".join(embedding(i, f"text {i % 10}") + b"\n" for i in range(200))
        up.gate.clear()
        batch = daemon.api.submit(data, EMBEDDINGS)
        up.arrived(2)
        got = daemon.api.want(200, "GET", f"/v1/batches/{batch}/progress")
        self.assertEqual((got["in_flight"], got["waiting"], got["following"]), (2, 8, 190))
        daemon.api.cancel(batch)
        up.gate.set()
        report = self.finished(daemon, batch, data, want="cancelled")
        # The two that were in flight were answered, and with them those that ask the same.
        self.assertEqual(len(report.output), 40)
        self.assertEqual(report.codes, {"batch_cancelled": 160})
        self.assertEqual(len(up.seen), 2)

    def test_what_expires_takes_its_followers_along(self):
        up = self.upstream(lambda _path, _body: (200, {}, b'{"data":[]}'))
        daemon = self.serve(up.url, flags=["--max-inflight", "2", "--cancel-timeout", "1s"])
        data = b"".join(embedding(i, f"text {i % 10}") + b"\n" for i in range(100))
        up.gate.clear()
        batch = daemon.api.submit(data, EMBEDDINGS, window="2s")
        report = self.finished(daemon, batch, data, want="expired")
        self.assertEqual(report.codes, {"batch_expired": 100})

    def test_a_batch_that_continues_serves_equal_lines_from_what_it_takes_over(self):
        broken = {"yes": True}

        def answer(_path, body):
            if broken["yes"] and b"text 1" in body:
                return 400, {"Content-Type": "application/json"}, b'{"error":{}}'
            return 200, {"Content-Type": "application/json"}, b'{"data":[]}'
        up = self.upstream(answer)
        daemon = self.serve(up.url)
        data = b"".join(embedding(i, f"text {i % 3}") + b"\n" for i in range(30))
        first = daemon.api.submit(data, EMBEDDINGS)
        daemon.api.wait(first, "completed")
        self.assertEqual(len(up.seen), 3)
        broken["yes"] = False
        got = daemon.api.want(200, "POST", f"/v1/batches/{first}/retry")
        daemon.watch.saw(got)
        batch = daemon.api.wait(got["id"], "completed")
        self.assertEqual(batch["request_counts"], {"total": 30, "completed": 30, "failed": 0})
        self.assertEqual(len(up.seen), 4)

    def test_a_run_without_a_server_does_the_same(self):
        sim = self.sim()
        data, differ = with_equals(500, 50)
        self.path("in.jsonl", data)
        status, _, err = self.program("run", "in.jsonl", "-o", "out.jsonl", "--upstream", sim.url)
        self.assertEqual(status, 0, err)
        with open(self.path("out.jsonl"), "rb") as f:
            ids = [json.loads(x)["custom_id"] for x in f]
        self.assertEqual(ids, [f"c-{i}" for i in range(500)])
        self.assertEqual(len(sim.oracle().rows), differ)

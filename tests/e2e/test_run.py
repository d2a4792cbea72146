# SPDX-License-Identifier: Apache-2.0
"""batchd run and batchd check: batches without a server."""

import json
import os
import signal
import time

import checker
from harness import CHAT, E2E, chat_line, chat_lines, until
from upstream import Upstream, ok


class Run(E2E):
    cost = 3
    FAST = {"BATCHD_RETRY_BASE": "10ms", "BATCHD_RETRY_CAP": "100ms"}

    def args(self, url, *more):
        return ("run", self.path("in.jsonl"), "-o", self.path("out.jsonl"), "--upstream", url,
                *more)

    def read(self, name):
        with open(self.path(name), "rb") as f:
            return f.read()

    def lines(self, name, what="output"):
        return checker.result_lines(self.read(name), what)

    def check_whole(self, data, output, errors=()):
        """I1 and I3 on files that no server stands behind."""
        want = [x.custom_id for x in checker.input_lines(data)]
        got = [x.custom_id for x in output]
        bad = [x.custom_id for x in errors]
        self.assertEqual(sorted(got + bad), sorted(want))
        self.assertEqual(got, [c for c in want if c in set(got)], "input order")

    def test_a_file_is_run_whole(self):
        sim = self.sim("--latency", "2ms")
        data = chat_lines(300)
        self.path("in.jsonl", data)
        status, out, err = self.program(*self.args(sim.url))
        self.assertEqual((status, out), (0, ""), err)
        output = self.lines("out.jsonl")
        self.check_whole(data, output)
        lines = {x.custom_id: x for x in checker.input_lines(data)}
        for x in output:
            self.assertEqual(x.body, sim.ask(CHAT, lines[x.custom_id].body))
        self.assertEqual(sorted(os.listdir(self.dir)),
                         ["in.jsonl", "out.jsonl", "sim0.err", "sim0.out"], "leftovers")

    def test_failed_lines_go_to_the_error_file_and_the_exit_status_tells(self):
        def answer(_path, body):
            status = 400 if b"line 7" in body else 200
            return status, {"Content-Type": "application/json"}, b'{"object":"x"}'
        upstream = Upstream(answer)
        self.addCleanup(upstream.close)
        data = chat_lines(10)
        self.path("in.jsonl", data)
        status, _, err = self.program(*self.args(upstream.url, "-e", self.path("err.jsonl")))
        self.assertEqual(status, 1, err)
        errors = self.lines("err.jsonl", "error")
        self.check_whole(data, self.lines("out.jsonl"), errors)
        self.assertEqual([(x.custom_id, x.status) for x in errors], [("c-7", 400)])

    def test_after_a_kill_the_same_command_goes_on_where_it_was(self):
        sim = self.sim("--latency", "10ms")
        data = chat_lines(2000)
        self.path("in.jsonl", data)
        args = self.args(sim.url, "--max-inflight", "16")
        for i in range(3):
            proc = self.background(*args, name="run")
            before = len(sim.oracle().rows)
            until("work", lambda n=before: len(sim.oracle().rows) > n + 150)
            time.sleep(0.1)
            proc.kill9()
            self.assertFalse(os.path.exists(self.path("out.jsonl")), "half a file is in place")
        status, _, err = self.program(*args)
        self.assertEqual(status, 0, err)
        self.check_whole(data, self.lines("out.jsonl"))
        calls = len(sim.oracle().rows)
        # Each kill may cost what was in flight and what was not yet synced.
        self.assertLess(calls, 2000 + 3 * 200, "it began again instead of going on")

    def test_an_interrupt_stops_it_and_it_may_go_on(self):
        sim = self.sim("--latency", "20ms")
        data = chat_lines(1000)
        self.path("in.jsonl", data)
        args = self.args(sim.url, "--max-inflight", "8")
        proc = self.background(*args, name="run")
        until("work", lambda: len(sim.oracle().rows) > 50)
        proc.signal(signal.SIGINT)
        self.assertEqual(proc.wait(), 130, proc.errors())
        done = len(sim.oracle().rows)
        status, _, err = self.program(*args)
        self.assertEqual(status, 0, err)
        self.check_whole(data, self.lines("out.jsonl"))
        self.assertEqual(len(sim.oracle().rows), 1000, f"{done} were done before")

    def test_a_changed_input_is_not_mixed_with_old_results(self):
        sim = self.sim("--latency", "20ms")
        self.path("in.jsonl", chat_lines(500))
        args = self.args(sim.url, "--max-inflight", "8")
        proc = self.background(*args, name="run")
        until("work", lambda: len(sim.oracle().rows) > 50)
        proc.kill9()
        data = chat_lines(400, first=100000)
        self.path("in.jsonl", data)
        status, _, err = self.program(*args)
        if status == 0:
            self.check_whole(data, self.lines("out.jsonl"))
        else:
            self.assertEqual(status, 2)
            self.one_sentence(err)

    def test_bad_input_is_told_and_costs_nothing(self):
        sim = self.sim()
        self.path("in.jsonl", chat_line(1) + b"\n{nope\n" + chat_line(1) + b"\n")
        status, out, err = self.program(*self.args(sim.url))
        self.assertEqual(status, 2, err)
        self.assertRegex(out + err, r"in\.jsonl:2: invalid_json_line")
        self.assertRegex(out + err, r"in\.jsonl:3: duplicate_custom_id")
        self.assertEqual(sim.oracle().rows, [])
        self.assertFalse(os.path.exists(self.path("out.jsonl")))

    def test_files_that_are_not_there_or_cannot_be(self):
        sim = self.sim()
        status, _, err = self.program(*self.args(sim.url))
        self.assertNotIn(status, (0, 1))
        self.assertIn("in.jsonl", self.one_sentence(err))
        self.path("in.jsonl", chat_lines(2))
        status, _, err = self.program("run", self.path("in.jsonl"), "-o",
                                      self.path("no/such/out.jsonl"), "--upstream", sim.url)
        self.assertNotIn(status, (0, 1))
        self.one_sentence(err)
        self.assertEqual(sim.oracle().rows, [], "work was paid for that has no place to go")
        status, _, err = self.program("run", self.path("in.jsonl"), "-o", self.path("o.jsonl"))
        self.assertEqual(status, 2)
        self.assertIn("upstream", self.one_sentence(err))

    def test_faults_upstream_are_ridden_out(self):
        sim = self.sim("--fault", "500=10%,reset=10%,not-json=5%,429=10%")
        data = chat_lines(300)
        self.path("in.jsonl", data)
        status, _, err = self.program(*self.args(sim.url, "--max-attempts", "30"), env=self.FAST)
        self.assertEqual(status, 0, err)
        self.check_whole(data, self.lines("out.jsonl"))


class Check(E2E):
    def test_a_good_file(self):
        status, out, err = self.program("check", self.path("a.jsonl", chat_lines(20)))
        self.assertEqual((status, out), (0, ""))
        self.assertIn("20 requests", err)

    def test_a_bad_file_is_told_line_by_line(self):
        path = self.path("a.jsonl", chat_line(0) + b"\n{nope\n\n" + chat_line(0) + b"\n")
        status, out, _ = self.program("check", path)
        self.assertEqual(status, 1)
        self.assertEqual([x.split(": ")[:2] for x in out.splitlines()],
                         [[f"{path}:2", "invalid_json_line"],
                          [f"{path}:4", "duplicate_custom_id"]])

    def test_it_says_what_the_server_says(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        data = b"{nope\n" + chat_line(1).replace(b"POST", b"PUT") + b"\n" + json.dumps(
            {"custom_id": "x", "method": "POST", "url": CHAT}).encode() + b"\n"
        _, out, _ = self.program("check", self.path("a.jsonl", data), "--endpoint", CHAT)
        batch = daemon.api.wait(daemon.api.submit(data), "failed")
        want = [f"{e['line']}: {e['code']}: {e['message']}" for e in batch["errors"]["data"]]
        got = [x.split("a.jsonl:", 1)[1] for x in out.splitlines()]
        self.assertEqual(len(got), len(want))
        for g, w in zip(got, want):  # it may say more: where in the line, and why
            self.assertTrue(g.startswith(w), f"{g!r} is not {w!r}")

    def test_standard_input_and_other_endpoints(self):
        status, _, err = self.program("check", "-", stdin=chat_lines(3))
        self.assertEqual(status, 0, err)
        status, out, _ = self.program("check", "-", "--endpoint", "/v1/embeddings",
                                      stdin=chat_lines(3))
        self.assertEqual(status, 1)
        self.assertEqual(out.count("invalid_url"), 3)

    def test_control_bytes_of_a_file_do_not_reach_the_terminal(self):
        data = chat_line(0).replace(b'"sim-model"', b'"sim-model\\u001b[2J"') + b"\n" + \
            chat_line(1) + b"\n\x1b]0;title\x07\n"
        _, out, err = self.program("check", self.path("a.jsonl", data))
        self.assertNotIn("\x1b", out + err)

    def test_a_file_that_is_not_there(self):
        status, _, err = self.program("check", self.path("none.jsonl"))
        self.assertEqual(status, 2)
        self.assertIn("none.jsonl", self.one_sentence(err))


class Output(E2E):
    def test_an_existing_output_is_replaced_whole(self):
        upstream = Upstream(ok(b'{"object":"x"}'))
        self.addCleanup(upstream.close)
        self.path("in.jsonl", chat_lines(3))
        self.path("out.jsonl", b"old\n" * 1000)
        status, _, err = self.program("run", self.path("in.jsonl"), "-o", self.path("out.jsonl"),
                                      "--upstream", upstream.url)
        self.assertEqual(status, 0, err)
        with open(self.path("out.jsonl"), "rb") as f:
            self.assertEqual(len(checker.result_lines(f.read(), "output")), 3)

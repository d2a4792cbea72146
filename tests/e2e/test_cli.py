# SPDX-License-Identifier: Apache-2.0
"""The commands that talk to a server, as a person or a script uses them."""

import json
import time

import checker
from harness import CHAT, E2E, chat_lines, free_port
from upstream import Upstream, ok

COMMANDS = ("serve", "run", "check", "submit", "list", "show", "watch", "cancel", "pause",
            "resume", "results", "sim")


class Client(E2E):
    cost = 2

    def client(self, daemon, command, *args, **more):
        return self.program(command, *args, "--server", daemon.api.base, **more)

    def test_submit_and_wait_brings_the_answers(self):
        sim = self.sim("--latency", "5ms")
        daemon = self.serve(sim.url)
        data = chat_lines(100)
        status, out, err = self.client(daemon, "submit", self.path("in.jsonl", data), "--wait",
                                       "-o", self.path("out.jsonl"))
        self.assertEqual(status, 0, err)
        with open(self.path("out.jsonl"), "rb") as f:
            text = f.read()
        batch = daemon.api.want(200, "GET", "/v1/batches")["data"][0]
        self.assertEqual(text, daemon.api.output(batch))
        checker.check_batch(daemon.api, batch, data, sim.oracle())
        self.assertIn("100", out + err)

    def test_submit_show_watch_results_list_one_after_the_other(self):
        sim = self.sim("--latency", "5ms")
        daemon = self.serve(sim.url)
        status, out, err = self.client(daemon, "submit", self.path("in.jsonl", chat_lines(50)))
        self.assertEqual(status, 0, err)
        batch_id = out.strip().split()[-1]
        self.assertRegex(batch_id, r"^batch_\w+$", "a script needs the id on standard output")
        status, _, err = self.client(daemon, "watch", batch_id)
        self.assertEqual(status, 0, err)
        status, out, err = self.client(daemon, "show", batch_id)
        self.assertEqual(status, 0, err)
        self.assertIn("completed", out)
        status, out, err = self.client(daemon, "list")
        self.assertEqual(status, 0, err)
        self.assertIn(batch_id, out)
        status, out, err = self.client(daemon, "results", batch_id, "-o", self.path("o.jsonl"))
        self.assertEqual(status, 0, err)
        with open(self.path("o.jsonl"), "rb") as f:
            self.assertEqual(len(checker.result_lines(f.read(), "output")), 50)

    def test_failed_lines_are_told_by_the_exit_status(self):
        sim = self.sim("--fault", "400=30%")
        daemon = self.serve(sim.url)
        status, out, err = self.client(daemon, "submit", self.path("in.jsonl", chat_lines(60)),
                                       "--wait", "-o", self.path("out.jsonl"))
        self.assertEqual(status, 1, out + err)

    def test_a_batch_that_fails_validation_tells_every_bad_line(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        path = self.path("in.jsonl", chat_lines(2) + b"{nope\n" + chat_lines(1))
        status, out, err = self.client(daemon, "submit", path, "--wait", "-o",
                                       self.path("out.jsonl"))
        self.assertNotEqual(status, 0)
        self.assertIn(":3: invalid_json_line", out + err)
        self.assertIn(":4: duplicate_custom_id", out + err)

    def test_cancel(self):
        upstream = Upstream(ok(b'{"object":"x"}'))
        self.addCleanup(upstream.close)
        upstream.gate.clear()
        daemon = self.serve(upstream.url)
        batch_id = daemon.api.submit(chat_lines(300))
        upstream.arrived(1)
        status, _, err = self.client(daemon, "cancel", batch_id)
        self.assertEqual(status, 0, err)
        upstream.gate.set()
        daemon.api.wait(batch_id, "cancelled")
        time.sleep(0.1)
        daemon.api.wait(daemon.api.submit(chat_lines(1)), "completed")

    def test_what_cannot_be_has_one_sentence_and_a_status(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        for command in ("show", "watch", "cancel", "results"):
            with self.subTest(command):
                status, _, err = self.client(daemon, command, "batch_unknown")
                self.assertNotIn(status, (0, -11, -6))
                self.assertIn("batch_unknown", self.one_sentence(err))
        finished = daemon.api.submit(chat_lines(1))
        daemon.api.wait(finished)
        status, _, err = self.client(daemon, "cancel", finished)
        self.assertNotEqual(status, 0)
        self.assertIn("completed", self.one_sentence(err))

    def test_a_server_that_is_not_there(self):
        where = f"http://127.0.0.1:{free_port()}"
        for args in (("list",), ("show", "batch_x"),
                     ("submit", self.path("in.jsonl", chat_lines(1)))):
            with self.subTest(args[0]):
                status, _, err = self.program(*args, "--server", where)
                self.assertEqual(status, 69)
                self.assertIn(where.split("//")[1], self.one_sentence(err))


class Help(E2E):
    def test_help_of_everything(self):
        status, out, err = self.program("--help")
        self.assertEqual((status, err), (0, ""))
        for command in COMMANDS:
            with self.subTest(command):
                self.assertIn(command, out)
                status, text, err = self.program(command, "--help")
                self.assertEqual((status, err), (0, ""))
                self.assertIn(f"batchd {command}", text)
                self.assertLess(max(len(x) for x in text.splitlines()), 111)

    def test_without_a_command_it_says_what_there_is(self):
        status, out, err = self.program()
        self.assertEqual(status, 2)
        self.assertIn("serve", out + err)

    def test_the_version(self):
        status, out, _ = self.program("--version")
        self.assertEqual(status, 0)
        self.assertRegex(out, r"^batchd \d+\.\d+")


class SimItself(E2E):
    def test_the_sim_answers_and_keeps_its_oracle(self):
        sim = self.sim("--seed", 5)
        body = json.dumps({"model": "sim-model",
                           "messages": [{"role": "user", "content": "q"}]}).encode()
        first, again = sim.ask(CHAT, body), sim.ask(CHAT, body)
        self.assertEqual(first, again)
        rows = sim.oracle().rows
        self.assertEqual([(r["status"], r["bytes"]) for r in rows], [(200, len(body))] * 2)
        self.assertEqual(sim.counts()["requests"], 2)

    def test_a_wrong_flag_is_refused(self):
        for args in (("--fault", "nonsense=1"), ("--fault", "500=2"), ("--nonsense",)):
            status, _, err = self.program("sim", *args)
            self.assertEqual(status, 2)
            self.one_sentence(err)

# SPDX-License-Identifier: Apache-2.0
"""A batch that continues from an earlier one: what was answered is taken over byte for byte,
only the rest reaches the upstream."""

import collections
import json
import re
import time

import checker
from harness import CHAT, E2E, Refused, chat_line, chat_lines
from upstream import Upstream


def by_id(data):
    """{custom_id: line} of an output or error file, in its order."""
    return {json.loads(x)["custom_id"]: x for x in data.split(b"\n") if x}


class Flaky:
    """An upstream that refuses the lines of which `bad` says so, and answers the others."""

    def __init__(self):
        self.bad = lambda n: False
        self.up = Upstream(self.answer)
        self.calls = 0

    def answer(self, _path, body):
        self.calls += 1
        n = int(re.search(rb'"line (\d+)', body).group(1))
        if self.bad(n):
            return 400, {"Content-Type": "application/json"}, b'{"error":{"message":"no"}}'
        text = {"id": f"call-{self.calls}", "object": "chat.completion", "n": n,
                "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}
        return 200, {"Content-Type": "application/json"}, json.dumps(text).encode()

    def seen(self):
        """How often each line was asked for."""
        return collections.Counter(
            int(re.search(rb'"line (\d+)', x).group(1)) for x in self.up.bodies())


class Continue(E2E):
    cost = 4

    def flaky(self):
        flaky = Flaky()
        self.addCleanup(flaky.up.close)
        return flaky

    @staticmethod
    def retry(daemon, batch_id, want=200, headers=None, **body):
        got = daemon.api.call("POST", f"/v1/batches/{batch_id}/retry", body, headers)
        if got.status != want:
            raise Refused(f"retry of {batch_id}, want {want}", got)
        if want == 200:
            daemon.watch.saw(got.json)
        return got.json

    def ended(self, daemon, batch_id, want="completed"):
        return daemon.api.wait(batch_id, want, timeout=60, patient=True)

    def reused_rows(self, daemon):
        """What the ledger says was taken over; the server is stopped for it."""
        daemon.stop()
        rows = checker.read_ledger(daemon.data)["batches"]
        daemon.start()
        return {r["id"]: r["reused"] for r in rows}

    # Retry

    def test_a_retry_after_errors_runs_only_what_failed_and_merges(self):
        flaky = self.flaky()
        daemon = self.serve(flaky.up.url)
        data = chat_lines(60)
        flaky.bad = lambda n: n % 3 == 0
        first = self.ended(daemon, daemon.api.submit(data, metadata={"who": "me"}))
        self.assertEqual(first["request_counts"], {"total": 60, "completed": 40, "failed": 20})
        before = by_id(daemon.api.output(first))
        flaky.bad = lambda n: n == 30
        second = self.ended(daemon, self.retry(daemon, first["id"])["id"])
        self.assertEqual(second["request_counts"], {"total": 60, "completed": 59, "failed": 1})
        self.assertEqual(second["input_file_id"], first["input_file_id"])
        self.assertEqual(second["metadata"], {"who": "me"})
        self.assertEqual(second["completion_window"], "24h")
        self.assertEqual(second["usage"]["total_tokens"], 5 * 19, "only what this batch ran")
        checker.check_batch(daemon.api, second, data, reused=set(before))
        after = by_id(daemon.api.output(second))
        self.assertEqual({k: after[k] for k in before}, before, "reused lines byte for byte")
        self.assertEqual(list(after), [f"c-{i}" for i in range(60) if i != 30], "input order")
        self.assertEqual(flaky.seen(), {i: 1 + (i % 3 == 0) for i in range(60)})
        self.assertEqual(self.reused_rows(daemon)[second["id"]], 40)

        # And again, from a batch that itself continued from one.
        flaky.bad = lambda n: False
        third = self.ended(daemon, self.retry(daemon, second["id"], metadata={})["id"])
        self.assertEqual(third["request_counts"], {"total": 60, "completed": 60, "failed": 0})
        self.assertEqual(third["metadata"], {})
        self.assertIsNone(third["error_file_id"])
        final = by_id(daemon.api.output(third))
        self.assertEqual({k: final[k] for k in after}, after)
        self.assertEqual(flaky.seen()[30], 3)
        self.assertEqual(sum(flaky.seen().values()), 60 + 20 + 1)
        got = self.retry(daemon, third["id"], want=409)
        self.assertIn("no line that failed", got["error"]["message"])

    def test_a_retry_after_a_cancel_runs_no_line_twice(self):
        sim = self.sim("--latency", "40ms")
        daemon = self.serve(sim.url, flags=["--max-inflight", "8"])
        data = chat_lines(150)
        batch_id = daemon.api.submit(data)
        daemon.api.wait(batch_id, "in_progress")
        while daemon.api.get(batch_id)["request_counts"]["completed"] < 20:
            time.sleep(0.01)
        daemon.api.cancel(batch_id)
        first = self.ended(daemon, batch_id, "cancelled")
        before = by_id(daemon.api.output(first))
        self.assertTrue(20 <= len(before) < 150)
        second = self.ended(daemon, self.retry(daemon, batch_id)["id"])
        self.assertEqual(second["request_counts"], {"total": 150, "completed": 150, "failed": 0})
        checker.check_batch(daemon.api, second, data, sim.oracle(), reused=set(before))
        after = by_id(daemon.api.output(second))
        self.assertEqual({k: after[k] for k in before}, before)
        asked = collections.Counter(r["crc32"] for r in sim.oracle().rows)
        self.assertEqual(set(asked.values()), {1}, "every line reached the upstream once")

    def test_a_retry_after_expiry_goes_on_where_it_ended(self):
        sim = self.sim("--latency", "100ms")
        daemon = self.serve(sim.url, flags=["--max-inflight", "2"])
        data = chat_lines(60)
        first = self.ended(daemon, daemon.api.submit(data, window="2s"), "expired")
        before = by_id(daemon.api.output(first))
        self.assertTrue(0 < len(before) < 60)
        made = self.retry(daemon, first["id"], completion_window="1h")
        self.assertEqual(made["completion_window"], "1h")
        self.assertEqual(made["expires_at"] - made["created_at"], 3600)
        second = self.ended(daemon, made["id"])
        checker.check_batch(daemon.api, second, data, sim.oracle(), reused=set(before))
        self.assertEqual(second["request_counts"]["completed"], 60)
        asked = collections.Counter(r["crc32"] for r in sim.oracle().rows)
        self.assertEqual(set(asked.values()), {1})

    def test_a_batch_of_which_nothing_was_answered_runs_whole(self):
        flaky = self.flaky()
        daemon = self.serve(flaky.up.url)
        flaky.bad = lambda n: True
        first = self.ended(daemon, daemon.api.submit(chat_lines(10)))
        self.assertIsNone(first["output_file_id"])
        flaky.bad = lambda n: False
        second = self.ended(daemon, self.retry(daemon, first["id"])["id"])
        self.assertEqual(second["request_counts"]["completed"], 10)

    def test_what_cannot_be_retried_is_told_in_a_sentence(self):
        flaky = self.flaky()
        daemon = self.serve(flaky.up.url)
        flaky.bad = lambda n: n == 0
        flaky.up.gate.clear()
        running = daemon.api.submit(chat_lines(3))
        got = daemon.api.call("POST", f"/v1/batches/{running}/retry", {})
        self.assertEqual(got.status, 409)
        self.assertRegex(got.error["message"], "^Cannot retry a batch with status '")
        self.assertEqual(got.headers["x-should-retry"], "false")
        flaky.up.gate.set()
        ended = self.ended(daemon, running)
        refused = self.ended(daemon, daemon.api.submit(b"no json\n"), "failed")
        got = self.retry(daemon, refused["id"], want=409)
        self.assertIn("its input was refused", got["error"]["message"])
        self.retry(daemon, "batch_none", want=404)
        got = self.retry(daemon, ended["id"], want=400, completion_window="soon")
        self.assertEqual(got["error"]["param"], "completion_window")
        output, source = ended["output_file_id"], ended["input_file_id"]
        daemon.api.delete(output)
        got = self.retry(daemon, ended["id"], want=409)
        self.assertIn(f"its file '{output}' was deleted", got["error"]["message"])
        daemon.api.delete(source)
        got = self.retry(daemon, ended["id"], want=409)
        self.assertIn(f"its file '{source}' was deleted", got["error"]["message"])

    def test_a_retry_sent_twice_with_one_key_makes_one_batch(self):
        flaky = self.flaky()
        daemon = self.serve(flaky.up.url)
        flaky.bad = lambda n: n == 1
        first = self.ended(daemon, daemon.api.submit(chat_lines(3)))
        key = {"Idempotency-Key": "again-1"}
        made = self.retry(daemon, first["id"], headers=key)
        self.ended(daemon, made["id"])
        daemon.api.delete(first["input_file_id"])  # the second answer does not hang on it
        self.assertEqual(self.retry(daemon, first["id"], headers=key)["id"], made["id"])
        self.retry(daemon, made["id"], want=422, headers=key)

    def test_the_command_retry_waits_and_brings_all_answers(self):
        flaky = self.flaky()
        daemon = self.serve(flaky.up.url)
        flaky.bad = lambda n: n < 5
        first = self.ended(daemon, daemon.api.submit(chat_lines(20)))
        flaky.bad = lambda n: n == 0
        status, out, err = self.program("retry", first["id"], "--wait", "-o", self.path("o"),
                                        "-e", self.path("e"), "--server", daemon.api.base)
        self.assertEqual(status, 1, err)
        batch = daemon.api.get(out.strip())
        with open(self.path("o"), "rb") as f:
            self.assertEqual(f.read(), daemon.api.output(batch))
        with open(self.path("e"), "rb") as f:
            self.assertEqual(list(by_id(f.read())), ["c-0"])
        status, out, err = self.program("retry", batch["id"], "--window", "x",
                                        "--server", daemon.api.base)
        self.assertEqual(status, 2, out)
        self.one_sentence(err)
        status, out, err = self.program("retry", batch["id"], "-o", self.path("o"),
                                        "--server", daemon.api.base)
        self.assertEqual(status, 2, out)
        self.assertIn("--wait", self.one_sentence(err))

    # continue_from

    def test_lines_are_matched_by_custom_id_and_body_in_whatever_order(self):
        flaky = self.flaky()
        daemon = self.serve(flaky.up.url)
        lines = [chat_line(i) for i in range(30)]
        flaky.bad = lambda n: n >= 25
        first = self.ended(daemon, daemon.api.submit(lines))
        before = by_id(daemon.api.output(first))
        flaky.bad = lambda n: False
        changed = [chat_line(i, f"line {i} changed") if i < 5 else lines[i]
                   for i in range(29, -1, -1)]  # backwards, five of them with other bodies
        spaced = b'\xef\xbb\xbf' + b"\r\n\r\n".join(changed + [chat_line(77)])
        batch_id = daemon.api.submit(spaced, continue_from=first["id"])
        second = self.ended(daemon, batch_id)
        kept = {f"c-{i}" for i in range(5, 25)}
        checker.check_batch(daemon.api, second, spaced.replace(b"\r", b""), reused=kept)
        after = by_id(daemon.api.output(second))
        self.assertEqual({k: after[k] for k in kept}, {k: before[k] for k in kept})
        self.assertEqual(list(after), [f"c-{i}" for i in range(29, -1, -1)] + ["c-77"])
        for i in range(5):
            self.assertNotEqual(after[f"c-{i}"], before[f"c-{i}"])
        want = {i: 1 for i in range(5, 25)} | {i: 2 for i in range(5)} | \
            {i: 2 for i in range(25, 30)} | {77: 1}
        self.assertEqual(flaky.seen(), want)

    def test_when_all_is_answered_no_call_is_made(self):
        flaky = self.flaky()
        daemon = self.serve(flaky.up.url)
        data = chat_lines(40)
        first = self.ended(daemon, daemon.api.submit(data))
        flaky.up.gate.clear()  # whoever came now would wait for ever
        second = self.ended(daemon, daemon.api.submit(data, continue_from=first["id"]))
        self.assertEqual(second["request_counts"], {"total": 40, "completed": 40, "failed": 0})
        self.assertEqual(daemon.api.output(second), daemon.api.output(first))
        self.assertIsNone(second["usage"])
        self.assertEqual(sum(flaky.seen().values()), 40)

    def test_what_cannot_be_continued_from_is_refused_by_name(self):
        flaky = self.flaky()
        daemon = self.serve(flaky.up.url)
        flaky.up.gate.clear()
        running = daemon.api.submit(chat_lines(2))
        file_id = daemon.api.upload(chat_lines(2))

        def refused(says, endpoint=CHAT, **more):
            got = daemon.api.call("POST", "/v1/batches", {
                "input_file_id": file_id, "endpoint": endpoint, "completion_window": "24h",
                **more})
            self.assertEqual(got.status, 400, got)
            self.assertEqual(got.error["param"], "continue_from")
            self.assertIn(says, got.error["message"])
        refused("it has not ended yet", continue_from=running)
        refused("No batch found with id 'batch_none'", continue_from="batch_none")
        refused("is not the id of a batch", continue_from="../x")
        refused("expected a string", continue_from=7)
        flaky.up.gate.set()
        first = self.ended(daemon, running)
        refused("its endpoint is '/v1/chat/completions'", endpoint="/v1/embeddings",
                continue_from=running)
        daemon.api.delete(first["output_file_id"])
        refused("was deleted", continue_from=running)

    def test_files_deleted_after_the_create_do_no_harm(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        data = chat_lines(3000)
        first = self.ended(daemon, daemon.api.submit(data))
        copy = daemon.api.upload(data)
        for _ in range(3):
            batch = daemon.api.create(copy, continue_from=first["id"])
        daemon.api.delete(first["output_file_id"])
        daemon.api.delete(first["input_file_id"])
        second = self.ended(daemon, batch["id"])
        self.assertEqual(second["request_counts"]["completed"], 3000)
        self.assertEqual(len(sim.oracle().rows), 3000)

    def test_kills_while_answers_are_taken_over_lose_and_double_nothing(self):
        sim = self.sim("--tokens", "400-600")
        daemon = self.serve(sim.url, flags=["--max-inflight", "256"])
        data = b"".join(chat_line(i, max_tokens=600) + b"\n" for i in range(12000))
        more = b"".join(chat_line(i, max_tokens=600) + b"\n" for i in range(12000, 12100))
        first = self.ended(daemon, daemon.api.submit(data))
        calls = len(sim.oracle().rows)
        batch_id = daemon.api.submit(data + more, continue_from=first["id"])
        kills = 0
        for pause in (0.0, 0.01, 0.02, 0.03, 0.05, 0.08, 0.1, 0.15):
            time.sleep(pause)
            try:
                if daemon.api.get(batch_id)["status"] != "validating":
                    break
            except Refused as e:
                self.assertEqual(e.answer.status, 503)
            daemon.restart()
            kills += 1
        self.assertGreater(kills, 2, "the kills came too late to hit anything")
        second = self.ended(daemon, batch_id)
        self.assertEqual(second["request_counts"],
                         {"total": 12100, "completed": 12100, "failed": 0})
        ids = {f"c-{i}" for i in range(12000)}
        checker.check_batch(daemon.api, second, data + more, sim.oracle(), crashes=kills,
                            reused=ids)
        self.assertTrue(daemon.api.output(second).startswith(daemon.api.output(first)))
        # Lines of the first batch never ran again; those of the second at most once a life.
        rows = sim.oracle().rows
        self.assertFalse([r for r in rows[calls:] if not r["id"].startswith(batch_id)])
        self.assertEqual(self.reused_rows(daemon)[batch_id], 12000)

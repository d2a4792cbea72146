# SPDX-License-Identifier: Apache-2.0
"""A batch is paused, sampled, ranked and timed anew while it runs, and says what it does."""

import json
import threading
import time

from harness import E2E, chat_lines, free_port, until
from upstream import Upstream, ok

ANSWER = b'{"object":"x"}'


class Control(E2E):
    cost = 3

    def gated(self, *flags, **more):
        """An upstream that answers nothing until its gate opens, 4 calls at a time."""
        upstream = Upstream(ok(ANSWER))
        self.addCleanup(upstream.close)
        upstream.gate.clear()
        return upstream, self.serve(upstream.url, flags=["--max-inflight", "4", *flags], **more)

    def slow(self, seconds, *flags, **more):
        """An upstream that takes its time and counts what it has at once."""
        lock = threading.Lock()
        upstream = None
        now = 0

        def answer(_path, _body):
            nonlocal now
            with lock:
                now += 1
                upstream.most = max(upstream.most, now)
            time.sleep(seconds)
            with lock:
                now -= 1
            return 200, {"Content-Type": "application/json"}, ANSWER
        upstream = Upstream(answer)
        upstream.most = 0
        self.addCleanup(upstream.close)
        return upstream, self.serve(upstream.url, flags=list(flags), **more)

    def post(self, daemon, batch_id, what, body=None):
        batch = daemon.api.want(200, "POST", f"/v1/batches/{batch_id}{what}", body)
        daemon.api.watch.changed(batch)
        return batch

    def progress(self, daemon, batch_id):
        return daemon.api.want(200, "GET", f"/v1/batches/{batch_id}/progress")

    def says(self, daemon, batch_id, text, timeout=20.0):
        """Waits until it gives this as its why; the whole answer."""
        last = None

        def look():
            nonlocal last
            last = self.progress(daemon, batch_id)
            return last if text in last["why"] else None
        try:
            return until(f"{text!r}", look, timeout)
        except Exception as e:
            raise AssertionError(f"it says {last['why']!r}") from e

    def done(self, daemon, batch_id, n):
        def look():
            counts = daemon.api.get(batch_id)["request_counts"]
            return counts["completed"] + counts["failed"] >= n
        until(f"{n} results of {batch_id}", look)


class Pause(Control):
    def paused_at_four(self):
        upstream, daemon = self.gated()
        data = chat_lines(20)
        batch_id = daemon.api.submit(data)
        upstream.arrived(4)
        self.assertEqual(self.post(daemon, batch_id, "/pause")["status"], "in_progress")
        upstream.gate.set()
        self.done(daemon, batch_id, 4)
        time.sleep(0.2)
        self.assertEqual(len(upstream.seen), 4)
        return upstream, daemon, data, batch_id

    def test_pausing_stops_dispatch_and_resuming_goes_on(self):
        upstream, daemon, data, batch_id = self.paused_at_four()
        self.assertEqual(self.post(daemon, batch_id, "/pause")["status"], "in_progress")
        self.post(daemon, batch_id, "/resume")
        self.finished(daemon, batch_id, data)
        self.assertEqual(len(upstream.seen), 20)

    def test_a_pause_and_a_resume_outlive_kill_9(self):
        upstream, daemon, data, batch_id = self.paused_at_four()
        daemon.kill9()
        daemon.restart()
        got = self.says(daemon, batch_id, "Paused by its owner. Resume it to go on.")
        self.assertEqual((got["paused"], got["waiting"], got["in_flight"]), (True, 16, 0))
        time.sleep(0.2)
        self.assertEqual(len(upstream.seen), 4)
        self.post(daemon, batch_id, "/resume")
        daemon.kill9()
        daemon.restart()
        daemon.api.wait(batch_id, "completed", patient=True)
        self.finished(daemon, batch_id, data)

    def test_a_batch_may_be_made_paused(self):
        upstream, daemon = self.gated()
        upstream.gate.set()
        data = chat_lines(5)
        batch_id = daemon.api.submit(data, paused=True)
        self.says(daemon, batch_id, "Paused by its owner")
        time.sleep(0.2)
        self.assertEqual(len(upstream.seen), 0)
        self.post(daemon, batch_id, "/resume")
        self.finished(daemon, batch_id, data)

    def test_cancelling_a_paused_batch_accounts_for_the_rest(self):
        _, daemon, data, batch_id = self.paused_at_four()
        daemon.api.cancel(batch_id)
        report = self.finished(daemon, batch_id, data, want="cancelled")
        self.assertEqual(len(report.output), 4)
        self.assertEqual(report.codes, {"batch_cancelled": 16})
        for what in ("/pause", "/resume"):
            got = daemon.api.call("POST", f"/v1/batches/{batch_id}{what}")
            self.assertEqual((got.status, got.headers["x-should-retry"]), (409, "false"))

    def test_a_batch_paused_with_its_last_lines_in_flight_completes(self):
        upstream, daemon = self.gated()
        data = chat_lines(4)
        batch_id = daemon.api.submit(data)
        upstream.arrived(4)
        self.post(daemon, batch_id, "/pause")
        upstream.gate.set()
        self.finished(daemon, batch_id, data)

    def test_a_paused_batch_expires_at_its_time(self):
        upstream, daemon = self.gated()
        data = chat_lines(3)
        batch_id = daemon.api.submit(data, window="2s", paused=True)
        report = self.finished(daemon, batch_id, data, want="expired")
        self.assertEqual(report.codes, {"batch_expired": 3})
        self.assertEqual(len(upstream.seen), 0)


class Sample(Control):
    def sampled(self):
        upstream, daemon = self.gated()
        upstream.gate.set()
        data = chat_lines(30)
        batch_id = daemon.api.submit(data, sample=7)
        self.done(daemon, batch_id, 7)  # answered is not yet counted
        got = self.says(daemon, batch_id, "Its sample, the first 7 lines, is done: resume it")
        self.assertEqual((got["status"], got["sample"], got["waiting"]), ("in_progress", 7, 23))
        self.assertEqual(got["request_counts"], {"total": 30, "completed": 7, "failed": 0})
        self.assertIsNone(got["eta_seconds"])
        self.assertEqual(sorted(json.loads(b)["messages"][0]["content"] for b in upstream.bodies()),
                         [f"line {i}" for i in range(7)])
        return upstream, daemon, data, batch_id

    def test_a_sample_waits_and_goes_on_when_it_is_resumed(self):
        upstream, daemon, data, batch_id = self.sampled()
        daemon.kill9()
        daemon.restart()
        self.says(daemon, batch_id, "Its sample, the first 7 lines, is done")
        self.assertEqual(len(upstream.seen), 7)
        self.post(daemon, batch_id, "/resume")
        self.finished(daemon, batch_id, data)

    def test_a_sample_may_be_cancelled(self):
        _, daemon, data, batch_id = self.sampled()
        daemon.api.cancel(batch_id)
        report = self.finished(daemon, batch_id, data, want="cancelled")
        self.assertEqual(len(report.output), 7)
        self.assertEqual(report.codes, {"batch_cancelled": 23})

    def test_a_sample_of_more_than_there_is_is_the_whole(self):
        upstream, daemon = self.gated()
        upstream.gate.set()
        data = chat_lines(3)
        self.finished(daemon, daemon.api.submit(data, sample=4), data)


class Order(Control):
    def order_of(self, upstream, first):
        """Of each call in order of arrival: is it of the batch whose lines begin at `first`?"""
        return [int(json.loads(b)["messages"][0]["content"].split()[1]) >= first
                for b in upstream.bodies()]

    def overtaken(self, upstream):
        """Lines of the first batch between the second's first and last."""
        order = self.order_of(upstream, 1000)
        start, end = order.index(True), len(order) - order[::-1].index(True)
        return order[start:end].count(False)

    def test_a_batch_of_higher_priority_overtakes_a_running_one(self):
        upstream, daemon = self.slow(0.01, "--max-inflight", "4")
        low, high = chat_lines(300), chat_lines(40, first=1000)
        low_id = daemon.api.submit(low)
        upstream.arrived(20)
        high_id = daemon.api.submit(high, priority=1)
        self.finished(daemon, high_id, high)
        self.finished(daemon, low_id, low)
        self.assertLessEqual(self.overtaken(upstream), 8)  # what was under way

    def test_a_priority_raised_while_it_waits_counts_at_once(self):
        upstream, daemon = self.slow(0.01, "--max-inflight", "4")
        low, high = chat_lines(300), chat_lines(40, first=1000)
        low_id = daemon.api.submit(low, priority=3)
        high_id = daemon.api.submit(high, priority=2)
        got = self.says(daemon, high_id, "of batches with a higher priority.")
        self.assertRegex(got["why"], r"^It waits behind \d+ lines? of batches")
        self.assertIsNone(got["eta_seconds"])
        self.post(daemon, high_id, "", {"priority": 4})
        self.finished(daemon, high_id, high)
        self.finished(daemon, low_id, low)
        self.assertLessEqual(self.overtaken(upstream), 8)

    def test_a_project_never_has_more_calls_in_flight_than_its_limit(self):
        upstream, daemon = self.slow(0.05, "--max-inflight", "16",
                                     config="[limits]\nproject_inflight = 3\n")
        data = [chat_lines(20, first=i * 100) for i in range(3)]
        ids = [daemon.api.submit(x) for x in data]
        for batch_id, x in zip(ids, data):
            self.finished(daemon, batch_id, x)
        self.assertEqual(upstream.most, 3)


class Deadline(Control):
    def test_a_deadline_moved_nearer_expires_the_batch(self):
        upstream, daemon = self.gated("--cancel-timeout", "1s")
        data = chat_lines(20)
        batch_id = daemon.api.submit(data)
        upstream.arrived(4)
        batch = daemon.api.get(batch_id)
        seconds = int(time.time() - batch["created_at"]) + 2
        moved = self.post(daemon, batch_id, "", {"completion_window": f"{seconds}s"})
        self.assertEqual(moved["expires_at"], batch["created_at"] + seconds)
        report = self.finished(daemon, batch_id, data, want="expired")
        self.assertEqual(report.codes, {"batch_expired": 20})

    def test_a_deadline_moved_away_saves_the_batch_also_over_kill_9(self):
        upstream, daemon = self.gated()
        data = chat_lines(20)
        batch_id = daemon.api.submit(data, window="3s")
        upstream.arrived(4)
        self.post(daemon, batch_id, "", {"completion_window": "1h", "priority": -2})
        daemon.kill9()
        daemon.restart()
        time.sleep(max(0.0, daemon.api.wait(batch_id, "in_progress", patient=True)["created_at"]
                       + 3.5 - time.time()))
        upstream.gate.set()
        self.finished(daemon, batch_id, data)
        self.assertEqual(self.progress(daemon, batch_id)["priority"], -2)

    def test_a_deadline_in_the_past_is_refused(self):
        _, daemon = self.gated()
        batch_id = daemon.api.submit(chat_lines(20))
        time.sleep(1.1)
        got = daemon.api.call("POST", f"/v1/batches/{batch_id}", {"completion_window": "1s"})
        self.assertEqual((got.status, got.error["param"]), (400, "completion_window"))
        self.assertIn("give a longer window", got.error["message"])


class Cli(Control):
    def client(self, daemon, *args):
        return self.program(*args, "--server", daemon.api.base)

    def test_batchd_pauses_resumes_and_shows_progress(self):
        upstream, daemon = self.gated()
        data = chat_lines(20)
        batch_id = daemon.api.submit(data)
        upstream.arrived(4)
        self.assertEqual(self.client(daemon, "pause", batch_id),
                         (0, f"{batch_id} in_progress\n", ""))
        upstream.gate.set()
        self.done(daemon, batch_id, 4)
        status, out, err = self.client(daemon, "show", batch_id, "--progress")
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(json.loads(out)["why"], "Paused by its owner. Resume it to go on.")
        self.assertEqual(self.client(daemon, "resume", batch_id),
                         (0, f"{batch_id} in_progress\n", ""))
        self.finished(daemon, batch_id, data)
        status, _, err = self.client(daemon, "pause", batch_id)
        self.assertEqual(status, 2)
        self.assertIn("Cannot pause a batch with status 'completed'", self.one_sentence(err))


class Why(Control):
    def test_no_upstream_is_configured(self):
        daemon = self.serve([])
        batch_id = daemon.api.submit(chat_lines(3))
        got = self.says(daemon, batch_id, "No upstream server is configured.")
        self.assertEqual((got["waiting"], got["in_flight"], got["rate_per_second"]), (3, 0, None))

    def test_an_upstream_cannot_be_reached(self):
        daemon = self.serve(f"http://127.0.0.1:{free_port()}/v1")
        batch_id = daemon.api.submit(chat_lines(3))
        self.says(daemon, batch_id, "could not be reached yet")

    def test_an_upstream_has_gone_away(self):
        sim = self.sim("--latency", "20ms")
        daemon = self.serve(sim.url)
        batch_id = daemon.api.submit(chat_lines(2000))
        self.says(daemon, batch_id, "Running: ")
        sim.proc.kill9()
        got = self.says(daemon, batch_id, "has failed or been unreachable since 2")
        self.assertRegex(got["why"], r"the next try is in \d+ s\.$")
        self.assertIsNone(got["eta_at"])

    def test_an_upstream_asks_to_wait(self):
        sim = self.sim("--fault", "429=1", "--retry-after", "100")
        daemon = self.serve(sim.url)
        batch_id = daemon.api.submit(chat_lines(3))
        got = self.says(daemon, batch_id, "takes no calls at present (429 or 503)")
        self.assertRegex(got["why"], r"the next one is made in (\d\d|100) s\.$")

    def test_nobody_serves_the_model_any_more(self):
        upstream = Upstream(ok(ANSWER), models=["sim-model"])
        self.addCleanup(upstream.close)
        upstream.gate.clear()
        daemon = self.serve(upstream.url, flags=["--max-inflight", "2"],
                            config="[dispatch]\nmodels_refresh = 100ms\n")
        batch_id = daemon.api.submit(chat_lines(5))
        upstream.arrived(2)
        upstream.models = ["another"]
        self.says(daemon, batch_id, "; no upstream server serves the model 'sim-model' at present.")
        upstream.gate.set()
        self.says(daemon, batch_id, "No upstream server serves the model 'sim-model' at present.")
        upstream.models = ["sim-model"]
        daemon.api.wait(batch_id, "completed")

    def test_the_projects_limit_is_used_by_its_other_batches(self):
        upstream, daemon = self.gated(config="[limits]\nproject_inflight = 2\n")
        first = daemon.api.submit(chat_lines(10))
        self.says(daemon, first, "Running: 2 calls in flight; its project may have no more than 2")
        second = daemon.api.submit(chat_lines(10))
        self.says(daemon, second, "The limit of 2 calls in flight that its project has is used by")
        upstream.gate.set()
        daemon.api.wait(second, "completed")

    def test_a_running_batch_tells_its_pace_and_its_end(self):
        _, daemon = self.slow(0.1, "--max-inflight", "4")
        batch_id = daemon.api.submit(chat_lines(200), window="1h")
        got = self.says(daemon, batch_id, "results a second.")
        self.assertRegex(got["why"], r"^Running: \d calls? in flight, \d+\.\d\d results a second\.$")
        self.assertGreater(got["rate_per_second"], 5)
        self.assertLess(got["rate_per_second"], 60)
        self.assertGreaterEqual(got["eta_seconds"], 1)
        self.assertLess(abs(got["eta_at"] - time.time() - got["eta_seconds"]), 3)
        self.assertTrue(got["on_time"])
        self.assertEqual(got["waiting"] + got["in_flight"] + got["retrying"]
                         + got["request_counts"]["completed"] <= 200, True)
        late = self.post(daemon, batch_id, "", {"completion_window": "3s"})
        self.assertEqual(late["completion_window"], "3s")
        got = self.says(daemon, batch_id, "results a second.")
        self.assertFalse(got["on_time"])
        daemon.api.wait(batch_id, "expired")
        self.assertRegex(self.progress(daemon, batch_id)["why"], r"^Expired at 2\d{3}-.*Z, when")

    def test_a_batch_that_is_cancelled_and_one_that_is_done(self):
        upstream, daemon = self.gated()
        batch_id = daemon.api.submit(chat_lines(10))
        upstream.arrived(4)
        daemon.api.cancel(batch_id)
        got = self.says(daemon, batch_id, "It is being cancelled: the answers of 4 calls in flight")
        self.assertEqual((got["in_flight"], got["waiting"]), (4, 0))
        upstream.gate.set()
        daemon.api.wait(batch_id, "cancelled")
        self.assertRegex(self.progress(daemon, batch_id)["why"], r"^Cancelled at 2\d{3}-.*Z\.$")
        other = daemon.api.submit(b"no json\n")
        daemon.api.wait(other, "failed")
        self.assertRegex(self.progress(daemon, other)["why"], r"^Failed at 2\d{3}-.*Z: its errors")

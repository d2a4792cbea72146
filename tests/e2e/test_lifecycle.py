# SPDX-License-Identifier: Apache-2.0
"""Ends of a batch other than completion, restarts, drains, and what is left behind."""

import signal
import threading
import time

import checker
from harness import SLOWER, E2E, chat_lines
from upstream import Upstream, ok


class Gated(E2E):
    """With an upstream that answers nothing until its gate opens."""

    cost = 3

    def gated(self, *flags):
        upstream = Upstream(ok(b'{"object":"x"}'))
        self.addCleanup(upstream.close)
        upstream.gate.clear()
        return upstream, self.serve(upstream.url, flags=["--max-inflight", "4", *flags])

    def running(self, upstream, daemon, n=20, **more):
        data = chat_lines(n)
        batch_id = daemon.api.submit(data, **more)
        upstream.arrived(4)
        return data, batch_id


class Cancel(Gated):
    def test_cancelling_keeps_what_was_in_flight_and_sends_nothing_more(self):
        upstream, daemon = self.gated()
        data, batch_id = self.running(upstream, daemon)
        batch = daemon.api.cancel(batch_id)
        self.assertEqual(batch["status"], "cancelling")
        self.assertEqual(daemon.api.cancel(batch_id)["status"], "cancelling")
        time.sleep(0.2)
        self.assertEqual(daemon.api.get(batch_id)["status"], "cancelling")
        upstream.gate.set()
        report = self.finished(daemon, batch_id, data, want="cancelled")
        self.assertEqual(len(report.output), 4)
        self.assertEqual(report.codes, {"batch_cancelled": 16})
        self.assertEqual(len(upstream.seen), 4)
        self.assertEqual(daemon.api.cancel(batch_id)["status"], "cancelled")

    def test_cancelling_does_not_wait_for_ever(self):
        upstream, daemon = self.gated("--cancel-timeout", "1s")
        data, batch_id = self.running(upstream, daemon)
        daemon.api.cancel(batch_id)
        report = self.finished(daemon, batch_id, data, want="cancelled", timeout=10)
        self.assertEqual(report.codes, {"batch_cancelled": 20})

    def test_cancelling_while_validating(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        data = chat_lines(50000)
        batch_id = daemon.api.submit(data)
        batch = daemon.api.cancel(batch_id)
        self.assertEqual(batch["status"], "cancelling")
        self.finished(daemon, batch_id, data, want="cancelled")

    def test_a_batch_at_its_end_cannot_be_cancelled_and_clients_must_not_retry(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        completed, failed = daemon.api.submit(chat_lines(1)), daemon.api.submit(b"{nope\n")
        for batch_id, status in ((completed, "completed"), (failed, "failed")):
            daemon.api.wait(batch_id, status)
            got = daemon.api.call("POST", f"/v1/batches/{batch_id}/cancel")
            self.assertEqual(got.status, 409, got)
            self.assertEqual(got.error["message"],
                             f"Cannot cancel a batch with status '{status}'.")
            self.assertEqual(got.headers.get("x-should-retry"), "false")

    def test_cancels_of_many_at_the_same_instant(self):
        sim = self.sim("--latency", "5ms-50ms")
        daemon = self.serve(sim.url)
        data = chat_lines(100)
        ids = [daemon.api.submit(data) for _ in range(30)]
        codes = []

        def cancel(part):
            for batch_id in part:
                codes.append(daemon.api.call("POST", f"/v1/batches/{batch_id}/cancel").status)
        threads = [threading.Thread(target=cancel, args=(ids[i::6] + ids[i + 1::6],))
                   for i in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertLessEqual(set(codes), {200, 409})
        for batch_id in ids:
            self.finished(daemon, batch_id, data, sim, want=("completed", "cancelled"))


class Expiry(Gated):
    def test_a_batch_past_its_window_keeps_its_answers_and_tells_the_rest(self):
        upstream, daemon = self.gated("--cancel-timeout", "1s")
        data, batch_id = self.running(upstream, daemon, window="3s")
        upstream.gate.set()
        time.sleep(0.3)
        upstream.gate.clear()
        more = chat_lines(30)
        late_id = daemon.api.submit(more, window="1s")
        self.finished(daemon, batch_id, data, want="completed")
        report = self.finished(daemon, late_id, more, want="expired", timeout=15)
        self.assertEqual(report.codes, {"batch_expired": 30})
        self.assertEqual(report.batch["completion_window"], "1s")
        got = daemon.api.call("POST", f"/v1/batches/{late_id}/cancel")
        self.assertEqual(got.status, 409)

    def test_answers_got_before_the_deadline_are_in_the_output(self):
        sim = self.sim("--latency", "50ms")
        daemon = self.serve(sim.url, flags=["--max-inflight", "2", "--cancel-timeout", "1s"])
        data = chat_lines(500)
        report = self.finished(daemon, daemon.api.submit(data, window="2s"), data, sim,
                               want="expired", timeout=15)
        self.assertGreater(len(report.output), 20)
        self.assertGreater(report.codes["batch_expired"], 100)

    def test_a_deadline_that_passes_while_nothing_runs_is_kept_at_the_next_start(self):
        upstream, daemon = self.gated("--drain-timeout", "0s")
        data, batch_id = self.running(upstream, daemon, window="2s")
        daemon.stop()
        time.sleep(2)
        calls = len(upstream.seen)
        daemon.start()
        daemon.api.wait(batch_id, "expired", timeout=15, patient=True)
        self.finished(daemon, batch_id, data, want="expired")
        self.assertEqual(len(upstream.seen), calls, "work was sent out after the deadline")


class Deletion(Gated):
    def test_deleting_the_input_of_a_running_batch_harms_nothing(self):
        upstream, daemon = self.gated()
        data, batch_id = self.running(upstream, daemon)
        file_id = daemon.api.get(batch_id)["input_file_id"]
        daemon.api.delete(file_id)
        self.assertEqual(daemon.api.call("GET", f"/v1/files/{file_id}").status, 404)
        daemon.restart()
        upstream.gate.set()
        daemon.api.wait(batch_id, "completed", patient=True)
        self.finished(daemon, batch_id, data)

    def test_a_batch_cannot_be_made_of_a_deleted_file(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        file_id = daemon.api.upload(chat_lines(1))
        daemon.api.delete(file_id)
        batch = daemon.api.create(file_id)
        daemon.api.wait(batch["id"], "failed")

    def test_result_files_can_be_deleted_and_the_batch_stays(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        batch_id = daemon.api.submit(chat_lines(5))
        batch = daemon.api.wait(batch_id, "completed")
        daemon.api.delete(batch["output_file_id"])
        self.assertEqual(daemon.api.get(batch_id), batch)
        self.assertEqual(
            daemon.api.call("GET", f"/v1/files/{batch['output_file_id']}/content").status, 404)


class Restart(Gated):
    def test_sigterm_lets_requests_in_flight_finish_and_repeats_none(self):
        upstream, daemon = self.gated("--drain-timeout", "20s")
        data, batch_id = self.running(upstream, daemon)
        daemon.proc.signal(signal.SIGTERM)
        time.sleep(0.3)
        self.assertTrue(daemon.proc.alive(), "it did not wait for what is in flight")
        upstream.gate.set()
        self.assertEqual(daemon.proc.wait(), 0)
        self.assertEqual(len(upstream.seen), 4)
        daemon.start()
        daemon.api.wait(batch_id, "completed", patient=True)
        self.finished(daemon, batch_id, data)
        self.assertEqual(len(upstream.seen), 20, "a drained request was sent again")

    def test_a_second_sigterm_does_not_wait(self):
        upstream, daemon = self.gated("--drain-timeout", "60s")
        data, batch_id = self.running(upstream, daemon)
        daemon.proc.signal(signal.SIGTERM)
        time.sleep(0.3)
        daemon.proc.signal(signal.SIGTERM)
        daemon.proc.wait(5)
        upstream.gate.set()
        daemon.start()
        daemon.api.wait(batch_id, "completed", patient=True)
        self.finished(daemon, batch_id, data)

    def test_a_drain_ends_at_its_time_limit(self):
        upstream, daemon = self.gated("--drain-timeout", "500ms")
        data, batch_id = self.running(upstream, daemon)
        start = time.monotonic()
        daemon.stop()
        self.assertLess(time.monotonic() - start, 5)
        upstream.gate.set()
        daemon.start()
        daemon.api.wait(batch_id, "completed", patient=True)
        self.finished(daemon, batch_id, data)

    def test_orderly_restarts_in_every_state(self):
        sim = self.sim("--latency", "100ms")
        daemon = self.serve(sim.url, flags=["--max-inflight", "16", "--drain-timeout", "200ms"])
        data, bad = chat_lines(200), b"{nope\n"
        ids = {daemon.api.submit(data): "completed", daemon.api.submit(bad): "failed"}
        cancelled = daemon.api.submit(data)
        daemon.api.cancel(cancelled)
        ids[cancelled] = "cancelled"
        for _ in range(4):
            daemon.stop()
            daemon.start()
            time.sleep(0.1)
        for batch_id, want in ids.items():
            daemon.api.wait(batch_id, want, patient=True)
            self.finished(daemon, batch_id, data, want=want)
        daemon.stop()
        daemon.start()
        daemon.watch.check_promises(daemon.api)


class Resources(E2E):
    cost = 8
    limit = 90

    def test_descriptors_memory_and_threads_return_to_their_baseline(self):
        sim = self.sim("--fault", "500=3%,reset=2%")
        # Few connections to the upstream: how many of them are open is a matter of chance.
        daemon = self.serve(sim.url, flags=["--max-attempts", "20", "--max-inflight", "4"])
        data = chat_lines(1500)
        for _ in range(3):
            self.finished(daemon, daemon.api.submit(data), data)
        baseline = checker.Baseline(daemon.proc.pid)
        for _ in range(8):
            self.finished(daemon, daemon.api.submit(data), data)
        # A sanitizer keeps freed memory for a while; then only the rest can be told.
        baseline.check(fds=6, rss=0.10 if SLOWER == 1 else 10)

    def test_hundreds_of_pollers_and_silent_connections_do_not_stop_the_work(self):
        import socket
        sim = self.sim("--latency", "5ms")
        daemon = self.serve(sim.url)
        host, port = daemon.api.host.split(":")
        silent = [socket.create_connection((host, int(port))) for _ in range(200)]
        for s in silent[:100]:
            s.sendall(b"GET /v1/batches HTTP/1.1\r\nHost: x\r\n")
        data = chat_lines(3000)
        batch_id = daemon.api.submit(data)
        slowest, bad = [0.0], []

        def poll():
            while not done.is_set():
                start = time.monotonic()
                got = daemon.api.call("GET", f"/v1/batches/{batch_id}")
                slowest[0] = max(slowest[0], time.monotonic() - start)
                if got.status != 200:
                    bad.append(got)
        done = threading.Event()
        threads = [threading.Thread(target=poll) for _ in range(16)]
        for t in threads:
            t.start()
        try:
            self.finished(daemon, batch_id, data, sim)
        finally:
            done.set()
            for t in threads:
                t.join()
            for s in silent:
                s.close()
        self.assertEqual(bad, [])
        self.assertLess(slowest[0], 2.0)

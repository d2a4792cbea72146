# SPDX-License-Identifier: Apache-2.0
"""Results and events of a batch while it runs: streams, their ends, and what cuts them."""

import collections
import http.client
import json
import os
import socket
import threading
import time

from harness import SLOWER, E2E, chat_line, chat_lines, until
from upstream import Upstream, ok


class Stream:
    """One streamed answer, read in a thread: its lines as they come, and how it ended.

    Over a bare socket: http.client does not tell an answer that was cut between two chunks
    from one that has ended."""

    def __init__(self, api, path, headers=None, start=True):
        self.lines, self.times = [], []
        self.cut = self.ended = False
        self.sock = socket.create_connection(api.host.split(":"), timeout=60 * SLOWER)
        self.file = self.sock.makefile("rb")
        head = {"Host": api.host, **(headers or {})}
        if api.key:
            head["Authorization"] = "Bearer " + api.key
        text = "".join(f"{k}: {v}\r\n" for k, v in head.items())
        self.sock.sendall(f"GET {path} HTTP/1.1\r\n{text}\r\n".encode())
        self.status = int(self.file.readline().split()[1])
        self.headers = {k.lower(): v for k, v in http.client.parse_headers(self.file).items()}
        self.thread = threading.Thread(target=self._read, daemon=True)
        if start:
            self.thread.start()

    def _chunk(self):
        """b"" after the last one; None when there is no more."""
        size = self.file.readline()
        if not size.endswith(b"\n"):
            return None
        n = int(size, 16)
        data = self.file.read(n + 2)
        return data[:n] if len(data) == n + 2 else None

    def _read(self):
        rest = b""
        try:
            while True:
                chunk = self._chunk()
                if not chunk:
                    self.cut = chunk is None
                    break
                *whole, rest = (rest + chunk).split(b"\n")
                now = time.monotonic()
                self.times += [now] * len(whole)
                self.lines += [x + b"\n" for x in whole]
        except (OSError, ValueError):
            self.cut = True
        self.cut = self.cut or rest != b""
        self.file.close()
        self.sock.close()
        self.ended = True

    def has(self, n, timeout=20.0):
        until(f"{n} lines", lambda: len(self.lines) >= n, timeout)

    def _join(self, timeout):
        if not self.thread.ident:
            self.thread.start()
        self.thread.join(timeout * SLOWER)
        assert self.ended, f"still open after {len(self.lines)} lines"

    def end(self, timeout=30.0):
        """Its lines; it must have ended in good order."""
        self._join(timeout)
        assert not self.cut, f"it was cut after {len(self.lines)} lines"
        return self.lines

    def broken(self, timeout=30.0):
        """Its lines; it must have been cut."""
        self._join(timeout)
        assert self.cut, f"it ended well after {len(self.lines)} lines"
        return self.lines

    def close(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self._join(10)


class Streams(E2E):
    cost = 3

    def gated(self, *flags):
        upstream = Upstream(ok(b'{"object":"x"}'))
        self.addCleanup(upstream.close)
        upstream.gate.clear()
        return upstream, self.serve(upstream.url, flags=["--max-inflight", "4", *flags])

    def results(self, daemon, batch_id, query="?follow=1", **more):
        got = Stream(daemon.api, f"/v1/batches/{batch_id}/results{query}", **more)
        self.assertEqual(got.status, 200)
        self.assertEqual(got.headers["content-type"], "application/x-ndjson")
        return got

    def events(self, daemon, batch_id, **more):
        got = Stream(daemon.api, f"/v1/batches/{batch_id}/events", **more)
        self.assertEqual(got.status, 200)
        self.assertEqual(got.headers["content-type"], "text/event-stream")
        return got

    def same_lines(self, daemon, batch, lines):
        """Each line of the two files once, and nothing else."""
        want = (daemon.api.output(batch) + daemon.api.errors(batch)).splitlines(True)
        twice = [x for x, n in collections.Counter(lines).items() if n > 1]
        self.assertEqual(twice[:1], [], f"{len(twice)} lines came twice")
        self.assertEqual(len(lines), len(want))
        self.assertEqual(sorted(lines), sorted(want))


class Follow(Streams):
    def test_a_follower_gets_every_line_once_and_ends_with_the_batch(self):
        sim = self.sim("--latency", "1ms-20ms", "--fault", "500=2%,400=3%,reset=1%")
        daemon = self.serve(sim.url, flags=["--max-inflight", "32"])
        data = chat_lines(3000)
        batch_id = daemon.api.submit(data)
        follower = self.results(daemon, batch_id)
        self.assertEqual(follower.headers["x-batch-order"], "completion")
        second = self.results(daemon, batch_id, "?follow=true&after=")
        report = self.finished(daemon, batch_id, data, sim)
        self.same_lines(daemon, report.batch, follower.end())
        self.assertEqual(second.end(), follower.lines, "the order is not the same for all")

    def test_lines_come_while_the_batch_runs_and_after_passes_over_the_first(self):
        leave = threading.Semaphore(0)
        self.addCleanup(leave.release, 100)
        upstream = Upstream(lambda *_: leave.acquire() and ok(b'{"object":"x"}')(*_))
        self.addCleanup(upstream.close)
        daemon = self.serve(upstream.url, flags=["--max-inflight", "4"])
        data = chat_lines(12)
        batch_id = daemon.api.submit(data)
        follower = self.results(daemon, batch_id)
        upstream.arrived(4)
        self.assertEqual(self.results(daemon, batch_id, "").end(), [])
        leave.release(5)
        follower.has(5)
        now = self.results(daemon, batch_id, "").end()
        self.assertEqual(now, follower.lines)
        for n in (0, 1, 3, 5, 1000):
            self.assertEqual(self.results(daemon, batch_id, f"?after={n}&follow=0").end(),
                             now[n:])
        late = self.results(daemon, batch_id, "?follow=1&after=7")
        self.assertEqual(daemon.api.get(batch_id)["request_counts"]["completed"], 5)
        leave.release(7)
        report = self.finished(daemon, batch_id, data)
        self.same_lines(daemon, report.batch, follower.end())
        self.assertEqual(late.end(), follower.lines[7:])

    def test_after_goes_on_where_a_killed_server_left_off(self):
        sim = self.sim("--latency", "1ms-30ms", "--fault", "500=1%")
        daemon = self.serve(sim.url, flags=["--max-inflight", "16"])
        data = chat_lines(3000)
        batch_id = daemon.api.submit(data)
        lines = []
        for i in range(5):
            follower = self.patiently(daemon, batch_id, len(lines))
            until("some lines", lambda f=follower: len(f.lines) > 50 or f.ended)
            daemon.restart()
            follower.thread.join()
            lines += follower.lines
            if not follower.cut:
                break
        else:
            lines += self.patiently(daemon, batch_id, len(lines)).end(60)
        report = self.finished(daemon, batch_id, data, sim)
        self.same_lines(daemon, report.batch, lines)

    @staticmethod
    def patiently(daemon, batch_id, after):
        def ask():
            got = Stream(daemon.api, f"/v1/batches/{batch_id}/results?follow=1&after={after}")
            if got.status == 200:
                return got
            assert got.status == 503, got.status
            return None
        return until("the end of recovery", ask, 30)

    def test_a_cancelled_batch_tells_its_followers_of_every_line(self):
        upstream, daemon = self.gated()
        data = chat_lines(300)
        batch_id = daemon.api.submit(data)
        upstream.arrived(4)
        followers = [self.results(daemon, batch_id, f"?follow=1&after={n}") for n in (0, 2, 9)]
        daemon.api.cancel(batch_id)
        upstream.gate.set()
        report = self.finished(daemon, batch_id, data, want="cancelled")
        self.same_lines(daemon, report.batch, followers[0].end())
        self.assertEqual(followers[1].end(), followers[0].lines[2:])
        self.assertEqual(followers[2].broken(), [])  # so many lines were never in its log
        codes = [json.loads(x)["error"] for x in followers[0].lines]
        self.assertEqual([c for c in codes[:4] if c], [])
        self.assertEqual({c["code"] for c in codes[4:]}, {"batch_cancelled"})

    def test_an_expired_batch_tells_its_followers_of_every_line(self):
        sim = self.sim("--latency", "40ms", "--fault", "400=20%")
        daemon = self.serve(sim.url, flags=["--max-inflight", "2", "--cancel-timeout", "1s"])
        data = chat_lines(400)
        batch_id = daemon.api.submit(data, window="2s")
        follower = self.results(daemon, batch_id)
        report = self.finished(daemon, batch_id, data, sim, want="expired", timeout=20)
        self.same_lines(daemon, report.batch, follower.end())
        self.assertGreater(len(report.output), 5)

    def test_a_follower_may_come_before_the_batch_was_read_and_a_failed_one_has_no_line(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        for data, want in ((chat_lines(20000), "completed"), (b"{nope\n", "failed")):
            batch_id = daemon.api.submit(data)
            follower = self.results(daemon, batch_id)
            batch = daemon.api.wait(batch_id, want)
            self.same_lines(daemon, batch, follower.end())
            self.assertEqual(self.results(daemon, batch_id).end(), []
                             if want == "failed" else
                             (daemon.api.output(batch) + daemon.api.errors(batch))
                             .splitlines(True))

    def test_one_who_reads_late_gets_the_rest_from_the_files(self):
        """The log is deleted at the end of the batch, under a follower far behind."""
        big = Upstream(ok(b'{"object":"x","text":"' + b"y" * 600_000 + b'"}'))
        self.addCleanup(big.close)
        daemon = self.serve(big.url, flags=["--max-inflight", "8"])
        data = chat_lines(150)
        batch_id = daemon.api.submit(data)
        follower = self.results(daemon, batch_id, start=False)
        daemon.api.wait(batch_id, "in_progress")
        report = self.finished(daemon, batch_id, data)
        spool = os.path.join(daemon.data, "spool")
        until("the log is gone", lambda: not [x for x in os.listdir(spool) if batch_id in x])
        self.same_lines(daemon, report.batch, follower.end())


class Ended(Streams):
    def test_at_its_end_a_batch_has_its_files_in_their_order(self):
        sim = self.sim("--fault", "400=20%")
        daemon = self.serve(sim.url)
        batch_id = daemon.api.submit(chat_lines(200))
        batch = daemon.api.wait(batch_id, "completed")
        want = daemon.api.output(batch) + daemon.api.errors(batch)
        for query in ("", "?follow=1", "?after=0", "?after=&follow="):
            got = self.results(daemon, batch_id, query)
            self.assertEqual(got.headers["x-batch-order"], "file")
            self.assertEqual(b"".join(got.end()), want)
        got = daemon.api.call("HEAD", f"/v1/batches/{batch_id}/results")
        self.assertEqual((got.status, got.body), (200, b""))
        got = daemon.api.call("GET", f"/v1/batches/{batch_id}/results?follow=1&after=3")
        self.assertEqual(got.status, 409)
        self.assertEqual(got.headers["x-should-retry"], "false")
        self.assertIn(batch["output_file_id"], got.error["message"])
        self.assertIn(batch["error_file_id"], got.error["message"])
        daemon.api.delete(batch["error_file_id"])
        got = daemon.api.call("GET", f"/v1/batches/{batch_id}/results")
        self.assertEqual(got.status, 404)
        self.assertIn(batch["error_file_id"], got.error["message"])

    def test_unknown_batches_and_wrong_values_are_refused(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        batch_id = daemon.api.submit(chat_lines(1))
        unknown = "batch_" + "0" * 32
        for tail in ("results", "events", "results?follow=1", "results?after=1"):
            got = daemon.api.call("GET", f"/v1/batches/{unknown}/{tail}")
            self.assertEqual(got.status, 404)
            self.assertEqual(got.error["message"], f"No batch found with id '{unknown}'.")
            got = daemon.api.call("POST", f"/v1/batches/{batch_id}/{tail.split('?')[0]}")
            self.assertEqual(got.status, 405)
        for query, param, code in (("after=x", "after", "invalid_type"),
                                   ("after=-1", "after", "invalid_type"),
                                   ("after=1.0", "after", "invalid_type"),
                                   ("after=4294967296", "after", "integer_above_max_value"),
                                   ("after=" + "9" * 30, "after", "integer_above_max_value"),
                                   ("follow=2", "follow", "invalid_value"),
                                   ("follow=maybe", "follow", "invalid_value")):
            got = daemon.api.call("GET", f"/v1/batches/{batch_id}/results?{query}")
            self.assertEqual((got.status, got.error["param"], got.error["code"]),
                             (400, param, code), query)
        daemon.api.wait(batch_id, "completed")


class Events(Streams):
    @staticmethod
    def parse(lines):
        """[(number, batch)] of all events."""
        text = b"".join(lines).decode()
        found = []
        for block in text.split("\n\n"):
            if not block or block.startswith(":"):
                continue
            fields = dict(x.split(": ", 1) for x in block.splitlines())
            assert fields["event"] == "batch", block
            found.append((int(fields["id"]), json.loads(fields["data"])))
        return found

    def test_status_and_counts_come_as_events_until_the_end(self):
        sim = self.sim("--latency", "20ms-60ms", "--fault", "400=10%")
        daemon = self.serve(sim.url, flags=["--max-inflight", "8"])
        data = chat_lines(400)
        batch_id = daemon.api.submit(data, metadata={"a": "line\nfeed", "b": "\u00e4"})
        watcher = self.events(daemon, batch_id, headers={"Last-Event-ID": "41"})
        report = self.finished(daemon, batch_id, data, sim)
        events = self.parse(watcher.end())
        self.assertEqual([n for n, _ in events], list(range(42, 42 + len(events))))
        self.assertEqual(events[-1][1], report.batch)
        counts = [b["request_counts"]["completed"] + b["request_counts"]["failed"]
                  for _, b in events]
        self.assertEqual(counts, sorted(counts))
        self.assertGreater(len(set(counts)), 4)
        self.assertIn("in_progress", {b["status"] for _, b in events})
        took = watcher.times[-1] - watcher.times[0]
        self.assertLessEqual(len(events), took * 5 + 2)
        again = self.parse(self.events(daemon, batch_id).end())
        self.assertEqual(again, [(1, report.batch)])

    def test_a_cancel_is_told_while_nothing_else_happens(self):
        upstream, daemon = self.gated()
        data = chat_lines(20)
        batch_id = daemon.api.submit(data)
        upstream.arrived(4)
        watcher = self.events(daemon, batch_id)
        watcher.has(1)
        daemon.api.cancel(batch_id)
        until("the cancel", lambda: self.parse(watcher.lines[:-1])
              and self.parse(watcher.lines)[-1][1]["status"] == "cancelling")
        upstream.gate.set()
        report = self.finished(daemon, batch_id, data, want="cancelled")
        self.assertEqual(self.parse(watcher.end())[-1][1], report.batch)

    def test_a_silent_stream_shows_that_it_lives(self):
        upstream, daemon = self.gated()
        batch_id = daemon.api.submit(chat_lines(5))
        upstream.arrived(4)
        watcher = self.events(daemon, batch_id)
        until("a heartbeat", lambda: [x for x in watcher.lines if x.startswith(b":")], 40)
        upstream.gate.set()
        watcher.end()

    test_a_silent_stream_shows_that_it_lives.cost = 17


class Cuts(Streams):
    def fds(self, daemon):
        return len(os.listdir(f"/proc/{daemon.proc.pid}/fd"))

    def test_clients_that_go_away_leave_nothing_behind(self):
        upstream, daemon = self.gated()
        data = chat_lines(20)
        batch_id = daemon.api.submit(data)
        upstream.arrived(4)
        daemon.api.get(batch_id)
        before = self.fds(daemon)
        gone = [self.results(daemon, batch_id) for _ in range(20)] + \
               [self.events(daemon, batch_id) for _ in range(20)]
        self.assertGreaterEqual(self.fds(daemon), before + 40)
        for stream in gone:
            stream.close()
        until("their descriptors", lambda: self.fds(daemon) <= before, 10)
        follower = self.results(daemon, batch_id)
        upstream.gate.set()
        report = self.finished(daemon, batch_id, data)
        self.same_lines(daemon, report.batch, follower.end())

    def test_a_server_that_ends_cuts_its_followers_in_time(self):
        upstream, daemon = self.gated("--drain-timeout", "200ms")
        data = chat_lines(20)
        batch_id = daemon.api.submit(data)
        upstream.arrived(4)
        followers = [self.results(daemon, batch_id) for _ in range(5)]
        watchers = [self.events(daemon, batch_id) for _ in range(5)]
        for w in watchers:
            w.has(1)
        start = time.monotonic()
        daemon.stop()
        self.assertLess(time.monotonic() - start, 5 * SLOWER)
        for f in followers:
            self.assertEqual(f.broken(), [])
        for w in watchers:
            w.end()
        upstream.gate.set()
        daemon.start()
        daemon.api.wait(batch_id, "completed", patient=True)
        self.finished(daemon, batch_id, data)

    def test_many_followers_of_one_batch_cost_no_threads_and_all_get_everything(self):
        sim = self.sim("--latency", "5ms-30ms")
        daemon = self.serve(sim.url, flags=["--max-inflight", "32"])
        data = b"".join(chat_line(i, "x" * 500) + b"\n" for i in range(1500))
        batch_id = daemon.api.submit(data)
        followers = [self.results(daemon, batch_id) for _ in range(60)]
        tasks = len(os.listdir(f"/proc/{daemon.proc.pid}/task"))
        self.assertLess(tasks, 30)
        report = self.finished(daemon, batch_id, data, sim)
        for f in followers:
            self.same_lines(daemon, report.batch, f.end())

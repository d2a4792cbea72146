# SPDX-License-Identifier: Apache-2.0
"""Descriptors and memory that run out: what needs them is refused, what has them goes on, and
when there are some again it is as if nothing had been."""

import http.client
import os
import resource
import signal
import socket
import time

import checker
from harness import E2E, Api, Proc, Refused, chat_line, chat_lines, until


class Hasty(Api):
    """Who is not let in does not wait long."""

    def call(self, method, path, body=None, headers=None, timeout=1.0):
        return super().call(method, path, body, headers, min(timeout, 1.0))


class Exhausted(E2E):
    cost = 8
    limit = 90

    def tried(self, call, *args, **more):
        """The result, or None when it was refused for the moment."""
        try:
            return call(*args, **more)
        except (OSError, http.client.HTTPException):
            return None
        except Refused as e:
            self.assertEqual(e.answer.status, 503, e)
            return None

    def fds(self, daemon):
        return len(os.listdir(f"/proc/{daemon.proc.pid}/fd"))

    def test_descriptors_that_run_out_cost_time(self):
        sim = self.sim("--latency", "5ms-20ms")
        daemon = self.serve(sim.url, flags=["--max-inflight", "16"])
        data, before = chat_lines(1500), resource.prlimit(daemon.proc.pid, resource.RLIMIT_NOFILE)
        batches = [daemon.api.submit(data)]
        daemon.api.wait(batches[0], "in_progress")
        api, refused = Hasty(daemon.api.base, daemon.watch), 0
        for spare in (0, 1, 2, 4, 8):
            resource.prlimit(daemon.proc.pid, resource.RLIMIT_NOFILE,
                             (self.fds(daemon) + spare, before[1]))
            for _ in range(4):
                file_id = self.tried(api.upload, chat_lines(20))
                batch = file_id and self.tried(api.create, file_id)
                batches += [batch["id"]] if batch else []
                refused += not batch
                self.tried(api.get, batches[0])
        self.assertGreater(refused, 0, "nothing was refused: the limit was none")
        resource.prlimit(daemon.proc.pid, resource.RLIMIT_NOFILE, before)
        for i, batch_id in enumerate(batches):
            report = self.finished(daemon, batch_id, chat_lines(20) if i else data, sim,
                                   timeout=40)
            self.assertFalse(report.errors, "a line failed of it")
        daemon.watch.check_promises(daemon.api)

    def test_more_connections_than_descriptors_wait_or_are_refused(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        before = resource.prlimit(daemon.proc.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(daemon.proc.pid, resource.RLIMIT_NOFILE,
                         (self.fds(daemon) + 30, before[1]))
        host, port = daemon.api.host.split(":")
        crowd = []
        for _ in range(200):
            s = socket.create_connection((host, int(port)), timeout=5)
            s.sendall(b"GET /healthz HTTP/1.1\r\n")
            crowd.append(s)
        time.sleep(0.3)
        self.assertTrue(daemon.proc.alive())
        for s in crowd:
            s.close()
        # A head may take its 10 s, also one whose client has left unseen.
        until("it answers again", lambda: self.tried(
            daemon.api.call, "GET", "/healthz", timeout=2), timeout=30)
        resource.prlimit(daemon.proc.pid, resource.RLIMIT_NOFILE, before)
        data = chat_lines(50)
        self.finished(daemon, daemon.api.submit(data), data, sim)

    def test_memory_that_runs_out_loses_nothing(self):
        sim = self.sim("--latency", "1ms-5ms")
        daemon = self.serve(sim.url)
        big = b"".join(chat_line(i, "x" * 3000) + b"\n" for i in range(4000))
        data = {}
        for spare in (64, 24, 8, 2, 0):
            first = daemon.api.submit(chat_lines(300))
            data[first] = chat_lines(300)
            daemon.api.wait(first, ("in_progress", "finalizing", "completed"))
            with open(f"/proc/{daemon.proc.pid}/statm", encoding="ascii") as f:
                size = int(f.read().split()[0]) * resource.getpagesize()
            resource.prlimit(daemon.proc.pid, resource.RLIMIT_AS,
                             (size + (spare << 20), resource.RLIM_INFINITY))
            api = Hasty(daemon.api.base, daemon.watch)
            for _ in range(3):
                file_id = self.tried(api.upload, big)
                batch = file_id and self.tried(api.create, file_id)
                if batch:
                    data[batch["id"]] = big
                self.tried(api.get, first)
            if daemon.proc.alive():
                resource.prlimit(daemon.proc.pid, resource.RLIMIT_AS,
                                 (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                daemon.kill9()
            else:
                self.ended_of_memory(daemon)
            daemon.start()
            until("recovery", lambda: daemon.api.call("GET", "/readyz").status == 200)
        for batch_id, text in data.items():
            report = self.finished(daemon, batch_id, text, sim, timeout=60)
            self.assertFalse(report.errors, "a line failed of it")
        daemon.watch.check_promises(daemon.api)

    def ended_of_memory(self, daemon):
        """It ended by itself: in order, or with the one sentence for it."""
        status, text = daemon.proc.wait(), daemon.proc.errors()
        self.assertIn(status, (-signal.SIGABRT, 71, 74), text[-2000:])
        self.assertRegex(text, r"out of memory|[Nn]o memory|Cannot allocate memory")
        daemon.crashes += 1
        with open(daemon.proc.err, "w", encoding="ascii"):
            pass  # what follows must not speak of a broken program

    def test_a_start_without_descriptors_says_so(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        daemon.stop()
        for limit in (3, 4, 6, 8, 10, 14, 18, 22):
            argv = ["sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh", *daemon.argv()]
            proc = Proc(argv, self.dir, f"few{limit}", daemon.env)
            self.procs.append(proc)
            until("its end or its start", lambda p=proc: not p.alive() or
                  b"listening" in open(p.out, "rb").read())
            if proc.alive():
                self.assertEqual(proc.term(), 0)
                continue
            self.assertIn(proc.wait(), (69, 71, 73, 74, 127), proc.errors())
            self.assertRegex(proc.errors(), r"Too many open files|descriptors|error while loading")
        daemon.start()
        checker.check_log(daemon.proc.errors())

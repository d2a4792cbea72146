# SPDX-License-Identifier: Apache-2.0
"""Idle work, and what is said of a batch that cannot be in time."""

from harness import E2E, chat_line


def lines(n):
    return b"".join(chat_line(i) + b"\n" for i in range(n))


class Tier(E2E):
    cost = 4

    def daemon(self, latency, calls, **more):
        sim = self.sim("--latency", latency)
        return sim, self.serve(sim.url, flags=["--max-inflight", str(calls)], **more)

    def progress(self, daemon, batch):
        return daemon.api.want(200, "GET", f"/v1/batches/{batch}/progress")

    def test_a_tier_is_told_changed_and_judged(self):
        sim, daemon = self.daemon("100ms", 1)
        data = lines(30)
        file = daemon.api.upload(data)
        batch = daemon.api.create(file, tier="idle")
        self.assertNotIn("tier", batch)
        self.assertEqual(self.progress(daemon, batch["id"])["tier"], "idle")
        daemon.api.want(200, "POST", f"/v1/batches/{batch['id']}", {"tier": "standard"})
        self.assertEqual(self.progress(daemon, batch["id"])["tier"], "standard")
        daemon.kill9()
        daemon.start()
        self.assertEqual(self.progress(daemon, batch["id"])["tier"], "standard")
        for bad in ("urgent", "", 7):
            body = {"input_file_id": file, "endpoint": "/v1/chat/completions",
                    "completion_window": "24h", "tier": bad}
            self.assertEqual(daemon.api.call("POST", "/v1/batches", body).status, 400)
        self.finished(daemon, batch["id"], data, sim)

    def test_other_work_goes_before_idle_work(self):
        sim, daemon = self.daemon("50ms", 2)
        idle, other = lines(80), lines(20)
        first = daemon.api.submit(idle, tier="idle")
        second = daemon.api.submit(other)
        self.finished(daemon, second, other, sim)
        self.assertEqual(daemon.api.get(first)["status"], "in_progress")
        self.finished(daemon, first, idle, sim)

    def test_a_batch_that_cannot_be_in_time_is_told_when_it_could(self):
        sim, daemon = self.daemon("100ms", 4, config="[dispatch]\nadmission = reject\n")
        data = lines(300)
        self.finished(daemon, daemon.api.submit(data), data, sim)  # its speed is known now
        late = daemon.api.submit(lines(6000), window="10s")
        error = daemon.api.wait(late, "failed")["errors"]["data"][0]
        self.assertEqual(error["code"], "batch_capacity_exceeded")
        self.assertIn("The earliest deadline that would hold is 2", error["message"])
        self.finished(daemon, daemon.api.submit(data, window="5m"), data, sim)

    def test_what_is_only_warned_of_runs_and_says_so(self):
        sim, daemon = self.daemon("100ms", 4)
        data = lines(300)
        self.finished(daemon, daemon.api.submit(data), data, sim)
        late = daemon.api.submit(lines(6000), window="20s")
        daemon.api.wait(late, "in_progress")
        admission = self.progress(daemon, late)["admission"]
        self.assertEqual(admission["fits"], False)
        self.assertGreater(admission["feasible_at"], daemon.api.get(late)["expires_at"])
        daemon.api.cancel(late)
        daemon.api.wait(late, "cancelled")

# SPDX-License-Identifier: Apache-2.0
"""Several simulated GPU servers behind one batchd: caches, a crash, a slow one, quotas."""

import json

from harness import CHAT, E2E


def lines(n, groups=1, tokens=20):
    """Chat lines whose prompts begin alike in so many groups; each tells its answer's length."""
    def line(i):
        shared = f"You are expert {i % groups}. " + "Read this with care. " * 100
        body = {"model": "sim-model", "max_tokens": 200, "metadata": {"sim_out": str(tokens)},
                "messages": [{"role": "system", "content": shared},
                             {"role": "user", "content": f"question {i}"}]}
        return json.dumps({"custom_id": f"c-{i}", "method": "POST", "url": CHAT, "body": body})
    return "".join(line(i) + "\n" for i in range(n)).encode()


class Fleet(E2E):
    cost = 4
    preset = ("--preset", "h100-8b", "--speed", "50")

    def test_replicas_share_a_batch_and_tell_what_their_caches_had(self):
        sim = self.sim(*self.preset, replicas=3)
        daemon = self.serve(sim.urls)
        data = lines(300)
        report = self.finished(daemon, daemon.api.submit(data, CHAT), data, sim)
        self.assertEqual(len(report.output), 300)
        counts = [sim.counts(i) for i in range(3)]
        self.assertTrue(all(c["good"] > 0 for c in counts), counts)
        usage = report.batch["usage"]
        self.assertEqual(usage["output_tokens"], 300 * 20)
        self.assertEqual(usage["input_tokens_details"]["cached_tokens"],
                         sum(c["tokens"]["cached"] for c in counts))
        # Each replica reads the beginning of all prompts once, or a few times at the start.
        self.assertGreater(usage["input_tokens_details"]["cached_tokens"],
                           usage["input_tokens"] // 2)

    def test_a_replica_that_crashes_costs_no_line(self):
        sim = self.sim("--preset", "h100-8b", "--speed", "5", "--max-seqs", "16",
                       "--schedule", "crash@1s+300ms#2", replicas=3)
        daemon = self.serve(sim.urls)
        data = lines(400, groups=20, tokens=200)  # 0.26 s each at best, 48 at once: 2.2 s
        report = self.finished(daemon, daemon.api.submit(data, CHAT), data, sim, attempts=6)
        self.assertEqual(len(report.output), 400)
        self.assertEqual([sim.counts(i)["crashes"] for i in range(3)], [0, 1, 0])

    def test_a_slow_replica_gets_fewer_lines(self):
        sim = self.sim(*self.preset, "--schedule", "slow@0+10m:20#1", replicas=2)
        daemon = self.serve(sim.urls)
        data = lines(600, groups=20, tokens=100)
        report = self.finished(daemon, daemon.api.submit(data, CHAT), data, sim)
        self.assertEqual(len(report.output), 600)
        self.assertLess(sim.counts(0)["good"], sim.counts(1)["good"])

    def test_a_quota_slows_a_batch_down_and_fails_none_of_it(self):
        for style in ("openai", "anthropic", "azure"):
            sim = self.sim("--rpm", "6000", "--quota-burst", "500ms", "--limit-style", style)
            daemon = self.serve(sim.url)
            data = lines(150)
            report = self.finished(daemon, daemon.api.submit(data, CHAT), data, sim)
            self.assertEqual(len(report.output), 150)
            self.assertEqual(sim.counts()["good"], 150)

# SPDX-License-Identifier: Apache-2.0
"""kill -9 at chosen points: what was acknowledged stays, and no line is lost or doubled.  At random
ones: tests/long/kills."""

import os
import random
import threading
import time

from harness import E2E, Refused, chat_lines


class Crash(E2E):
    cost = 15
    limit = 120

    def test_kills_at_random_moments_lose_and_double_nothing(self):
        rng = random.Random(int(os.environ.get("BATCHD_E2E_SEED", "1")))
        sim = self.sim("--latency", "1ms-30ms", "--fault", "500=2%,reset=2%,429=1%")
        daemon = self.serve(sim.url, flags=["--max-inflight", "32"])
        inputs = [chat_lines(n) for n in (4000, 1, 700)]
        ids = [daemon.api.submit(data) for data in inputs]
        for _ in range(15):
            until = time.monotonic() + rng.choice([0.0, 0.02, 0.1, 0.3])
            while time.monotonic() < until:
                self.look(daemon, ids)
            daemon.restart()
            self.look(daemon, ids)
        for batch_id, data in zip(ids, inputs):
            daemon.api.wait(batch_id, "completed", timeout=60, patient=True)
            self.finished(daemon, batch_id, data, sim)
        daemon.watch.check_promises(daemon.api)

    @staticmethod
    def look(daemon, ids):
        """Sees every batch once; the watch holds counts and states to what they were."""
        for batch_id in ids:
            try:
                daemon.api.get(batch_id)
            except Refused as e:
                if e.answer.status != 503:  # still recovering
                    raise
        time.sleep(0.003)

    def test_an_acknowledged_upload_survives_the_next_instant(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        for i in range(6):
            daemon.api.upload(chat_lines(10, first=i) if i % 2 else os.urandom(300000),
                              purpose="batch" if i % 2 else "user_data")
            daemon.restart()
            daemon.watch.check_promises(daemon.api)

    def test_an_acknowledged_batch_survives_the_next_instant_and_ends(self):
        sim = self.sim("--latency", "1ms")
        daemon = self.serve(sim.url)
        data = chat_lines(50)
        ids = []
        for _ in range(6):
            ids.append(daemon.api.submit(data))
            daemon.restart()
        for batch_id in ids:
            daemon.api.wait(batch_id, "completed", patient=True)
            self.finished(daemon, batch_id, data, sim)

    def test_an_acknowledged_cancel_survives_the_next_instant(self):
        sim = self.sim("--latency", "300ms")
        daemon = self.serve(sim.url, flags=["--max-inflight", "4"])
        data = chat_lines(200)
        for _ in range(4):
            batch_id = daemon.api.submit(data)
            daemon.api.wait(batch_id, "in_progress")
            daemon.api.cancel(batch_id)
            daemon.restart()
            daemon.api.wait(batch_id, "cancelled", patient=True)
            self.finished(daemon, batch_id, data, sim, want="cancelled")

    def test_an_acknowledged_delete_survives_the_next_instant(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        for _ in range(5):
            file_id = daemon.api.upload(chat_lines(5))
            daemon.api.delete(file_id)
            daemon.restart()
            daemon.watch.check_promises(daemon.api)

    def test_counts_and_results_of_a_finished_batch_survive(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        data = chat_lines(300)
        batch_id = daemon.api.submit(data)
        for _ in range(5):
            self.finished(daemon, batch_id, data, sim)
            daemon.restart()

    def test_a_kill_in_the_middle_of_an_upload_leaves_nothing(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        for i in range(4):
            api = daemon.api
            sender = threading.Thread(target=self.swallow, args=(
                lambda: api.upload_raw(b"x" * 60_000_000),))
            sender.start()
            time.sleep(0.01 + 0.02 * i)
            daemon.kill9()
            sender.join()
            daemon.start()
        # An upload may just have been through; then the row and the bytes agree (settled()).
        self.assertEqual(os.listdir(os.path.join(daemon.data, "tmp")), [])

    @staticmethod
    def swallow(call):
        try:
            call()
        except OSError:
            pass

    def test_kills_while_validating_and_while_writing_the_files(self):
        sim = self.sim()
        daemon = self.serve(sim.url, flags=["--max-inflight", "256"])
        data = chat_lines(20000)
        batch_id = daemon.api.submit(data)
        for pause in (0.0, 0.005, 0.01, 0.02, 0.04):
            time.sleep(pause)
            daemon.restart()
        seen = set()
        end = time.monotonic() + 60
        while "finalizing" not in seen and time.monotonic() < end:
            try:
                seen.add(daemon.api.get(batch_id)["status"])
            except Refused:
                pass
            if seen & {"completed"}:
                break
        daemon.restart()
        daemon.api.wait(batch_id, "completed", timeout=60, patient=True)
        self.finished(daemon, batch_id, data, sim)

    def test_a_crash_while_recovering_from_a_crash(self):
        sim = self.sim("--latency", "2ms")
        daemon = self.serve(sim.url)
        data = chat_lines(8000)
        batch_id = daemon.api.submit(data)
        daemon.api.wait(batch_id, "in_progress")
        time.sleep(0.4)
        for _ in range(8):
            daemon.restart()  # ready is not yet recovered
        daemon.api.wait(batch_id, "completed", timeout=60, patient=True)
        self.finished(daemon, batch_id, data, sim)

# SPDX-License-Identifier: Apache-2.0
"""Wall clocks that jump: nothing expires or is deleted by them, no stamp goes back, and work
goes on."""

import os
import signal
import time

from harness import BATCHD, E2E, TERMINAL, chat_lines, until
from receiver import Receiver, secret
from upstream import Upstream, ok

SKEW = os.environ.get("BATCHD_SKEW", os.path.join(
    os.path.dirname(os.path.realpath(BATCHD)), "tests", "faults", "skew.so"))
YEAR = 365 * 86400
JUMPS = ("-7200", str(YEAR), "@5", "@4070908800")  # -2 h, +1 year, 1970, 2099


class Clock(E2E):
    cost = 6

    def skewed(self, upstream, first="0", **more):
        self.assertTrue(os.path.exists(SKEW), f"{SKEW} is not there: make faults")
        self.clock = self.path("skew")
        self.set(first)
        return self.serve(upstream, env={"LD_PRELOAD": SKEW, "SKEW": self.clock}, **more)

    def set(self, text):
        with open(self.clock + ".new", "w", encoding="ascii") as f:
            f.write(text)
        os.rename(self.clock + ".new", self.clock)

    def slow(self):
        upstream = Upstream(ok(b'{"object":"x"}'))
        self.addCleanup(upstream.close)
        upstream.gate.clear()
        return upstream

    def doubted(self, daemon, want):
        until("recovery", lambda: daemon.api.call("GET", "/readyz").status == 200)
        got = daemon.api.want(200, "GET", "/readyz")
        self.assertEqual("note" in got, want, got)
        text = daemon.api.call("GET", "/metrics").body.decode()
        self.assertIn(f"\nbatchd_clock_doubted {int(want)}\n", text)

    def test_jumps_during_work_end_nothing_and_no_stamp_goes_back(self):
        upstream = self.slow()
        daemon = self.skewed(upstream.url, flags=["--max-inflight", "2"])
        data, ids, stamps = chat_lines(40), [], []
        kept = daemon.api.upload(chat_lines(1))
        upload = daemon.api.want(200, "POST", "/v1/uploads", {
            "filename": "p.jsonl", "purpose": "batch", "bytes": 10, "mime_type": "application/jsonl"})
        for jump in ("0", *JUMPS):
            before = time.time()
            self.set(jump)
            batch = daemon.api.create(daemon.api.upload(data))
            ids.append(batch["id"])
            stamps.append(batch["created_at"])
            self.assertAlmostEqual(batch["created_at"], before, delta=30)
            self.assertEqual(batch["expires_at"], batch["created_at"] + 86400)
            self.doubted(daemon, jump != "0")
            time.sleep(0.3)
            for other in ids:
                self.assertIn(daemon.api.get(other)["status"], ("validating", "in_progress"))
        self.assertEqual(stamps, sorted(stamps))
        self.assertEqual(len(set(ids)), len(ids))
        upstream.gate.set()
        for batch_id in ids:
            self.finished(daemon, batch_id, data)
        self.assertEqual(daemon.proc.errors().count("ev=clock.doubted"), 1,
                         "one line for one doubt")
        self.assertTrue(daemon.api.content(kept))
        daemon.api.want(200, "POST", f"/v1/uploads/{upload['id']}/cancel")  # it has not expired
        self.set("0")
        self.doubted(daemon, False)
        self.assertIn("ev=clock.trusted", daemon.proc.errors())
        daemon.watch.check_promises(daemon.api)

    def test_jumps_across_restarts_end_nothing(self):
        upstream = self.slow()
        daemon = self.skewed(upstream.url, flags=["--max-inflight", "2",
                                                     "--drain-timeout", "200ms"])
        data = chat_lines(30)
        batch_id = daemon.api.submit(data)
        kept = daemon.api.upload(chat_lines(2))
        until("the note of the time", lambda: os.path.exists(
            os.path.join(daemon.data, "clock")))
        for i, jump in enumerate(JUMPS):
            if i % 2:
                daemon.stop()
            else:
                daemon.kill9()
            self.set(jump)
            daemon.start()
            daemon.api.wait(batch_id, "in_progress", patient=True)
            self.doubted(daemon, True)
            new = daemon.api.create(daemon.api.upload(data))
            self.assertEqual(new["status"], "validating")
            self.assertNotIn(daemon.api.get(new["id"])["status"], TERMINAL)
            time.sleep(0.3)
            self.assertEqual(daemon.api.get(batch_id)["status"], "in_progress")
            self.assertTrue(daemon.api.content(kept))
        daemon.stop()
        self.set("0")
        daemon.start()
        upstream.gate.set()
        self.doubted(daemon, False)
        for batch in daemon.api.want(200, "GET", "/v1/batches?limit=100")["data"]:
            self.finished(daemon, batch["id"], data)
        daemon.watch.check_promises(daemon.api)

    def test_what_is_due_expires_also_while_the_clock_is_in_doubt(self):
        upstream = self.slow()
        daemon = self.skewed(upstream.url, flags=["--cancel-timeout", "1s"])
        data = chat_lines(3)
        batch_id = daemon.api.submit(data, window="3s")
        daemon.api.wait(batch_id, "in_progress")
        self.set("-7200")
        self.doubted(daemon, True)
        batch = daemon.api.wait(batch_id, "expired", timeout=20)
        self.assertAlmostEqual(batch["expired_at"], batch["expires_at"], delta=10)

    def test_an_operator_or_time_or_ntp_ends_the_doubt(self):
        upstream = self.slow()
        daemon = self.skewed(upstream.url, flags=["--clock-settle", "2s", "--input-expires", "0s",
                                                     "--drain-timeout", "200ms"])
        before = daemon.api.create(daemon.api.upload(chat_lines(1)))["created_at"]
        self.set(str(YEAR))
        self.doubted(daemon, True)
        until("the clock to be believed", lambda: "note" not in
              daemon.api.want(200, "GET", "/readyz"))
        after = daemon.api.create(daemon.api.upload(chat_lines(1)))["created_at"]
        self.assertGreaterEqual(after, before + YEAR - 60)
        daemon.watch.batches.clear()  # the first one has expired by right
        self.set(str(2 * YEAR))
        self.doubted(daemon, True)
        daemon.proc.signal(signal.SIGHUP)
        until("SIGHUP", lambda: "note" not in daemon.api.want(200, "GET", "/readyz"), 1.5)
        daemon.stop()
        self.set(f"{3 * YEAR} synced")  # away for a year, and set by NTP
        daemon.start()
        self.doubted(daemon, False)

    def test_a_webhook_is_not_given_up_by_a_clock_that_jumped(self):
        status = [503]
        receiver = Receiver(lambda _n: status[0])
        self.addCleanup(receiver.close)
        key = self.path("secret", secret(1).encode())
        upstream = Upstream(ok(b'{"object":"x"}'))
        self.addCleanup(upstream.close)
        daemon = self.skewed(upstream.url, config=(
            f"[webhook w]\nurl = {receiver.url}\nsecret_file = {key}\n"))
        daemon.api.wait(daemon.api.submit(chat_lines(1)), "completed")
        until("a first try", lambda: receiver.seen)
        self.set(str(YEAR))
        self.doubted(daemon, True)
        n = len(receiver.seen)
        until("another try", lambda: len(receiver.seen) > n)
        status[0] = 200
        n = len(receiver.seen)
        until("the delivery", lambda: len(receiver.seen) > n)
        self.assertNotIn("webhook.given_up", daemon.proc.errors())

# SPDX-License-Identifier: Apache-2.0
"""Webhooks: who is told that a batch has ended, and that nothing keeps it from being told."""

import re
import time

from harness import chat_lines, free_port, until
from receiver import Told, check, secret


class Webhooks(Told):
    def test_each_end_of_a_batch_is_told_signed_and_in_the_apis_words(self):
        receiver = self.receiver()
        sim = self.sim("--latency", "300ms")
        daemon = self.serve(sim.url, flags=["--max-inflight", "2"],
                            config=self.section("app", receiver.url + "?token=t1", 1))
        api = daemon.api
        begin = int(time.time())
        ends = {"batch.completed": api.submit(chat_lines(2)),
                "batch.failed": api.submit(b"{nope\n"),
                "batch.expired": api.submit(chat_lines(50), window="1s"),
                "batch.cancelled": api.submit(chat_lines(50))}
        api.wait(ends["batch.cancelled"], "in_progress")
        api.cancel(ends["batch.cancelled"])
        events = receiver.events(4, secret(1))
        for (path, headers, body), event in zip(receiver.seen, events):
            self.assertEqual(path, "/hook?token=t1")
            self.assertEqual(headers["content-type"], "application/json")
            self.assertRegex(headers["user-agent"], r"^batchd/[0-9.]+$")
            self.assertNotIn("authorization", headers)
            self.assertEqual(set(event), {"object", "id", "type", "created_at", "data"})
            self.assertEqual(event["object"], "event")
            self.assertRegex(event["id"], r"^evt_[0-9a-f]{32}$")
            self.assertEqual(event["data"], {"id": ends[event["type"]]})
            self.assertTrue(begin <= event["created_at"] <= time.time(), event)
            self.assertNotIn(b"\n", body)
        self.assertEqual({x["type"] for x in events}, set(ends))
        self.assertEqual(len({x["id"] for x in events}), 4)
        for kind, batch in ends.items():
            self.assertEqual("batch." + api.get(batch)["status"], kind)
            one, = self.settled(daemon, batch)
            self.assertEqual(one, {
                "object": "webhook.delivery", "type": kind, "destination": "app", "tries": 1,
                "event": [x["id"] for x in events if x["type"] == kind][0],
                "created_at": one["created_at"], "delivered_at": one["delivered_at"],
                "next_try_at": None, "given_up_at": None, "status_code": 200, "error": None})
        metrics = api.call("GET", "/metrics").body.decode()
        self.assertIn('batchd_webhook_deliveries_total{outcome="delivered"} 4\n', metrics)
        self.assertIn("batchd_webhook_pending 0\n", metrics)
        self.assertEqual(len(receiver.seen), 4)

    def test_who_wants_other_events_or_another_project_is_not_told(self):
        receiver = self.receiver()
        config = "".join([
            self.section("failures", receiver.url + "/failures", 1, events="failed, expired"),
            self.section("others", receiver.url + "/others", 2, project="other"),
            self.section("mine", receiver.url + "/mine", 3, project="default"),
            self.section("all", receiver.url + "/all", 4)])
        daemon = self.serve(self.sim().url, config=config)
        good, bad = daemon.api.submit(chat_lines(1)), daemon.api.submit(b"{nope\n")
        self.assertEqual({x["destination"] for x in self.settled(daemon, good)}, {"mine", "all"})
        self.assertEqual({x["destination"] for x in self.settled(daemon, bad)},
                         {"failures", "mine", "all"})
        numbers = {"/hook/failures": 1, "/hook/mine": 3, "/hook/all": 4}
        got = set()
        ids = {}
        for path, headers, body in receiver.arrived(5):
            event = check(headers, body, secret(numbers[path]))
            got.add((path, event["data"]["id"]))
            ids.setdefault(event["data"]["id"], set()).add(event["id"])
        self.assertEqual(got, {("/hook/failures", bad), ("/hook/mine", good), ("/hook/mine", bad),
                               ("/hook/all", good), ("/hook/all", bad)})
        self.assertEqual([len(x) for x in ids.values()], [1, 1])  # one event, however many told

    def test_what_fails_is_sent_again_under_the_same_id(self):
        receiver = self.receiver(lambda n: {1: 500, 2: (302, {"Location": "/elsewhere"})}.get(n, 204))
        daemon = self.serve(self.sim().url, config=self.section("app", receiver.url, 1))
        batch = daemon.api.submit(chat_lines(1))
        events = receiver.events(3, secret(1), timeout=30)
        self.assertEqual(events[0], events[1])
        self.assertEqual(events[0], events[2])
        self.assertEqual({x[0] for x in receiver.seen}, {"/hook"})
        one, = self.settled(daemon, batch)
        self.assertEqual((one["tries"], one["status_code"], one["error"]), (3, 204, None))
        metrics = daemon.api.call("GET", "/metrics").body.decode()
        self.assertIn('batchd_webhook_deliveries_total{outcome="failed"} 2\n', metrics)

    def test_a_receiver_that_is_down_is_told_when_it_is_back(self):
        port = free_port()
        url = f"http://127.0.0.1:{port}/hook"
        daemon = self.serve(self.sim().url, config=self.section("app", url, 1))
        batches = [daemon.api.submit(chat_lines(1)) for _ in range(5)]

        def failed():
            one, = self.tellings(daemon, batches[0]) or [{"tries": 0}]
            return one if one["tries"] else None
        one = until("a try", failed)
        self.assertEqual((one["status_code"], one["error"], one["delivered_at"]),
                         (None, "Connection refused", None))
        self.assertGreater(one["next_try_at"], one["created_at"])
        receiver = self.receiver(port=port)
        for batch in batches:
            self.settled(daemon, batch, 60)
        self.assertEqual({x["data"]["id"] for x in receiver.events(5, secret(1))}, set(batches))

    def test_a_slow_receiver_does_not_hold_up_another(self):
        slow, quick = self.receiver(), self.receiver()
        slow.gate.clear()
        daemon = self.serve(self.sim().url, config=(
            "[webhooks]\nwebhook_timeout = 10m\n" + self.section("slow", slow.url, 1)
            + self.section("quick", quick.url, 2)))
        batches = [daemon.api.submit(chat_lines(1)) for _ in range(100)]
        events = quick.events(100, secret(2))
        self.assertEqual({x["data"]["id"] for x in events}, set(batches))
        self.assertEqual(len(slow.arrived(2)), 2)  # two at once, and the rest waits
        slow.gate.set()
        slow.events(100, secret(1))
        for batch in batches:
            self.settled(daemon, batch)

    def test_an_event_outlives_a_crash_between_the_end_and_the_delivery(self):
        receiver = self.receiver()
        receiver.gate.clear()
        daemon = self.serve(self.sim().url, config=self.section("app", receiver.url, 1))
        batch = daemon.api.submit(chat_lines(1))
        receiver.arrived(1)  # the status is committed, nothing is delivered
        daemon.kill9()
        receiver.gate.set()
        daemon.start()
        events = receiver.events(2, secret(1))
        self.assertEqual(events[0], events[1])
        one, = self.settled(daemon, batch)
        self.assertEqual(one["event"], events[0]["id"])

    def test_stopping_does_not_wait_for_a_receiver(self):
        receiver = self.receiver()
        receiver.gate.clear()
        daemon = self.serve(self.sim().url, config=self.section("app", receiver.url, 1))
        batch = daemon.api.submit(chat_lines(1))
        receiver.arrived(1)
        daemon.stop(timeout=8)
        receiver.gate.set()
        daemon.start()
        one, = self.settled(daemon, batch)
        self.assertEqual(one["tries"], 1)  # what was broken off does not count
        self.assertEqual(len(receiver.seen), 2)

    def test_gone_and_a_section_that_is_gone_are_given_up(self):
        receiver = self.receiver(lambda _n: 410)
        daemon = self.serve(self.sim().url, config=(
            self.section("app", receiver.url, 1)
            + self.section("down", f"http://127.0.0.1:{free_port()}", 2)))
        batch = daemon.api.submit(chat_lines(1))

        def first():
            return [x for x in self.tellings(daemon, batch)
                    if x["destination"] == "app" and x["given_up_at"]]
        one, = until("410 to be taken for an answer", first)
        self.assertEqual((one["tries"], one["status_code"], one["next_try_at"]), (1, 410, None))
        daemon.stop()
        with open(daemon.config, "w", encoding="utf-8") as f:
            f.write(self.section("app", receiver.url, 1))
        daemon.start()
        gone, = [x for x in self.settled(daemon, batch) if x["destination"] == "down"]
        self.assertEqual(gone["error"], "there is no [webhook down] any more")
        self.assertEqual(len(receiver.seen), 1)

    def test_while_a_secret_is_replaced_both_sign(self):
        receiver = self.receiver()
        config = self.section("app", receiver.url, 1).replace(
            self.secret_file(1), self.secret_file(1, 2))
        daemon = self.serve(self.sim().url, config=config)
        daemon.api.submit(chat_lines(1))
        receiver.events(1, secret(1), secret(2))

    def test_a_bad_section_is_told_at_the_start_and_no_secret_shown(self):
        bad = self.path("bad", b"whsec_notbase64!\n")
        short = self.path("short", (secret(1)[:20] + "\n").encode())
        for config, want in [
                ("[webhook a]\nurl = http://h/\n", r"\[webhook a\] has no secret_file"),
                (f"[webhook a]\nurl = http://h/\nsecret_file = {bad}\n", r"\[webhook a\]: line 1"),
                (f"[webhook a]\nurl = http://h/\nsecret_file = {short}\n", r"\[webhook a\]: line 1"),
                ("[webhook a]\nurl = http://h/\nsecret_file = /nowhere/x\n", r"/nowhere/x"),
                (self.section("a", "http://h/", 1, events="finished"), r"no event 'finished'"),
                ("[webhooks]\ncallback_hosts = h\n", r"callback_secret_file is not")]:
            with self.subTest(config=config):
                path = self.path("bad.conf", config.encode())
                status, _, err = self.program("serve", "--config", path, "--listen",
                                              "127.0.0.1:0", "--data-dir", self.path("bad-data"))
                self.assertEqual(status, 2, err)
                self.assertRegex(err, want)
                self.assertNotIn("notbase64", err)
                self.assertNotIn(secret(1)[6:20], err)

    def test_secrets_are_in_no_log_and_not_in_what_print_config_says(self):
        receiver = self.receiver(lambda n: 500 if n == 1 else 200)
        daemon = self.serve(self.sim().url, env={"BATCHD_LOG_LEVEL": "debug"},
                            config=self.section("app", receiver.url + "?key=qu1etly", 1))
        batch = daemon.api.submit(chat_lines(1))
        self.settled(daemon, batch)
        log = daemon.proc.errors()
        self.assertRegex(log, r"ev=webhook\.failed .*to=\"app\"")
        self.assertRegex(log, r"ev=webhook\.recovered .*to=\"app\"")
        self.assertNotIn("qu1etly", log)
        self.assertNotIn(secret(1)[6:], log)
        self.assertIsNone(re.search(r"v1,[A-Za-z0-9+/]{20}", log))
        status, out, _ = self.program("serve", "--config", daemon.config, "--print-config")
        self.assertEqual(status, 0)
        self.assertNotIn(secret(1)[6:], out)

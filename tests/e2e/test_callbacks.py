# SPDX-License-Identifier: Apache-2.0
"""A batch's own callback_url: where the operator allows it, and nowhere else."""

import socket

from harness import CHAT, chat_lines, until
from receiver import Told, secret


class Callbacks(Told):
    def callback(self, daemon, url, lines=None):
        return daemon.api.submit(lines or chat_lines(1), callback_url=url)

    def test_a_batchs_own_callback_url_is_called_where_the_operator_allows_it(self):
        receiver = self.receiver()
        daemon = self.serve(self.sim().url, config=self.callbacks(receiver.host))
        batch = self.callback(daemon, f"http://{receiver.host}/done?job=12&token=t0psecret")
        event, = receiver.events(1, secret(7))
        self.assertEqual((event["type"], event["data"]["id"]), ("batch.completed", batch))
        self.assertEqual(receiver.seen[0][0], "/done?job=12&token=t0psecret")
        one, = self.settled(daemon, batch)
        self.assertEqual(one["destination"], receiver.host)
        bad = self.callback(daemon, f"http://{receiver.host}", b"{nope\n")
        self.settled(daemon, bad)
        self.assertEqual(receiver.seen[1][0], "/")
        other = daemon.api.upload(chat_lines(1))
        got = daemon.api.call("POST", "/v1/batches", {
            "input_file_id": other, "endpoint": CHAT, "completion_window": "24h",
            "callback_url": "http://127.0.0.1:1/"})
        self.assertEqual((got.status, got.json["error"]["param"]), (400, "callback_url"))
        log = daemon.proc.errors()
        self.assertNotIn("t0psecret", log)
        self.assertNotIn(secret(7), log)
        self.assertNotIn(secret(7)[6:], log)

    def test_a_callback_host_that_is_allowed_no_more_is_not_called(self):
        receiver = self.receiver(lambda _n: 500)
        daemon = self.serve(self.sim().url, config=self.callbacks(receiver.host))
        batch = self.callback(daemon, receiver.url)
        receiver.arrived(1)
        daemon.kill9()
        seen = len(receiver.seen)
        with open(daemon.config, "w", encoding="utf-8") as f:
            f.write(self.callbacks("elsewhere.example"))
        daemon.start()
        one, = self.settled(daemon, batch)
        self.assertEqual(one["error"], "the callback_url's host is not one of callback_hosts")
        self.assertEqual(len(receiver.seen), seen)

    def test_S4_a_callback_that_leads_to_this_machine_sees_no_connection(self):
        with socket.socket() as trap:
            trap.bind(("127.0.0.1", 0))
            trap.listen(64)
            trap.setblocking(False)
            port = trap.getsockname()[1]
            hosts = ["localhost", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "[::1]",
                     "[::ffff:127.0.0.1]", "0.0.0.0"]
            daemon = self.serve(self.sim().url, config=self.callbacks(
                ", ".join(f"{x}:{port}" for x in hosts), private="no"))
            batches = [self.callback(daemon, f"http://{x}:{port}/latest/meta-data/") for x in hosts]

            def tried(batch):
                one, = self.tellings(daemon, batch) or [{"tries": 0}]
                return one if one["tries"] else None
            for host, batch in zip(hosts, batches):
                with self.subTest(host=host):
                    one = until(f"the try to reach {host}", lambda b=batch: tried(b))
                    self.assertRegex(one["error"], r"^\S+ is (a loopback address|the unspecified"
                                     r" address|an IPv4 address in an IPv6 one), and none of")
                    self.assertIsNone(one["status_code"])
            with self.assertRaises(BlockingIOError):
                trap.accept()
            # The trap works: with leave, the same call comes in.
            daemon.stop()
            with open(daemon.config, "w", encoding="utf-8") as f:
                f.write(self.callbacks(f"localhost:{port}"))
            daemon.start()

            def came():
                try:
                    return trap.accept()[0]
                except BlockingIOError:
                    return None
            until("the connection that is allowed", came, 20).close()

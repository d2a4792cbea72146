# SPDX-License-Identifier: Apache-2.0
"""receiver: who is told by webhooks, and the Standard Webhooks check of what it is told,
written from the specification and not from batchd's source.
"""

import base64
import hashlib
import hmac
import http.server
import json
import threading
import time

from harness import E2E, until


def secret(n):
    """A secret as its file has it; n tells them apart."""
    return "whsec_" + base64.b64encode(bytes((n + i) % 256 for i in range(32))).decode()


def check(headers, body, *secrets):
    """The event, when each of the secrets has signed it (and nobody else)."""
    sent, when = headers["webhook-id"], headers["webhook-timestamp"]
    if abs(time.time() - int(when)) > 300:
        raise AssertionError(f"sent at {when}, and it is {time.time()}")
    got = headers["webhook-signature"].split(" ")
    want = []
    for one in secrets:
        key = base64.b64decode(one.removeprefix("whsec_"))
        mac = hmac.new(key, f"{sent}.{when}.".encode() + body, hashlib.sha256).digest()
        want.append("v1," + base64.b64encode(mac).decode())
    if got != want:
        raise AssertionError(f"signatures {got}, want {want}")
    event = json.loads(body)
    if event["id"] != sent:
        raise AssertionError(f"{sent} in the head, {event['id']} in the body")
    return event


class Receiver:
    """answer(number of the request, from 1) -> status, or (status, headers)."""

    def __init__(self, answer=lambda _n: 200, port=0):
        self.seen = []  # (path, headers by small name, body) in order of arrival
        self.gate = threading.Event()
        self.gate.set()
        self.lock = threading.Lock()
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                headers = {k.lower(): v for k, v in self.headers.items()}
                with owner.lock:
                    owner.seen.append((self.path, headers, body))
                    number = len(owner.seen)
                owner.gate.wait()
                got = answer(number)
                status, more = got if isinstance(got, tuple) else (got, {})
                self.send_response(status)
                for name, value in more.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "3")
                self.end_headers()
                self.wfile.write(b"ok\n")

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 512

            def handle_error(self, *_):
                pass  # a killed client is what these tests are about

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_port
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.host}/hook"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def arrived(self, n, timeout=20.0):
        """Waits until n requests are here, and hands them out."""
        end = time.monotonic() + timeout
        while len(self.seen) < n:
            if time.monotonic() > end:
                raise AssertionError(f"{len(self.seen)} of {n} events reached the receiver")
            time.sleep(0.005)
        return list(self.seen)

    def events(self, n, *secrets, timeout=20.0):
        """Waits for n requests, checks each, and hands out what they say."""
        return [check(headers, body, *secrets) for _, headers, body in self.arrived(n, timeout)]

    def close(self):
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()


class Told(E2E):
    """A test with receivers, secrets and sections."""

    cost = 3

    def receiver(self, *args, **more):
        receiver = Receiver(*args, **more)
        self.addCleanup(receiver.close)
        return receiver

    def secret_file(self, *numbers):
        text = "\n".join(secret(n) for n in numbers) + "\n"
        return self.path("secret-" + "-".join(map(str, numbers)), text.encode())

    def section(self, name, url, number, **more):
        lines = [f"[webhook {name}]", f"url = {url}", f"secret_file = {self.secret_file(number)}"]
        return "\n".join(lines + [f"{k} = {v}" for k, v in more.items()]) + "\n"

    def callbacks(self, hosts, number=7, private="yes"):
        return (f"[webhooks]\ncallback_hosts = {hosts}\ncallback_private = {private}\n"
                f"callback_secret_file = {self.secret_file(number)}\n")

    def tellings(self, daemon, batch):
        got = daemon.api.want(200, "GET", f"/v1/batches/{batch}/webhooks")
        self.assertEqual(got["object"], "list")
        return got["data"]

    def settled(self, daemon, batch, timeout=20.0):
        """What became of a batch's events, once each is delivered or given up."""
        def look():
            all_of_it = self.tellings(daemon, batch)
            return all_of_it if all_of_it and all(
                x["delivered_at"] or x["given_up_at"] for x in all_of_it) else None
        return until(f"the webhooks of {batch}", look, timeout)

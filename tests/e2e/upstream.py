# SPDX-License-Identifier: Apache-2.0
"""upstream: an inference server in a thread of the test, for what the sim cannot do: answers
that the test writes byte by byte, and gates that hold every answer back until it says so.
"""

import http.server
import json
import threading
import time


class Upstream:
    """answer(path, body) -> (status, headers, body bytes), called for every POST.

    models: what GET /v1/models lists; None: it does not list them, so it serves any."""

    def __init__(self, answer, models=None):
        self.models = models
        self.seen = []  # (path, headers, body) in order of arrival
        self.gate = threading.Event()
        self.gate.set()
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                if self.path == "/v1/models" and owner.models is not None:
                    data = [{"id": name, "object": "model"} for name in owner.models]
                    self._send(200, {"Content-Type": "application/json"},
                               json.dumps({"object": "list", "data": data}).encode())
                else:
                    self._send(404, {"Content-Type": "application/json"}, b"{}")

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                owner.seen.append((self.path, dict(self.headers), body))
                owner.gate.wait()
                self._send(*answer(self.path, body))

            def _send(self, status, headers, body):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 512

            def handle_error(self, *_):
                pass  # a killed client is what these tests are about

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def bodies(self):
        return [body for _, _, body in self.seen]

    def arrived(self, n, timeout=20.0):
        """Waits until n requests are here."""
        end = time.monotonic() + timeout
        while len(self.seen) < n:
            if time.monotonic() > end:
                raise AssertionError(f"{len(self.seen)} of {n} requests reached the upstream")
            time.sleep(0.005)

    def close(self):
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()


def ok(body):
    """An answer function that says 200 with these bytes to everything."""
    return lambda _path, _body: (200, {"Content-Type": "application/json"}, body)

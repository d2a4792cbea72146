#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a command with a sim and a server beside it: tests/sdk/with_server.py COMMAND...

The server's URL is in BATCHD_URL; its webhooks go to 127.0.0.1:BATCHD_WEBHOOK_PORT, where the
command may listen, and are signed with BATCHD_WEBHOOK_SECRET.  The exit status is the command's, or 1 when the checker
finds something on the server's disk afterwards."""

import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
sys.dont_write_bytecode = True

import harness  # noqa: E402  (after the path)
import receiver  # noqa: E402


class Server(harness.E2E):
    limit = 300

    def runTest(self):
        port, secret = harness.free_port(), receiver.secret(1)
        file = self.path("secret", secret.encode())
        daemon = self.serve(self.sim("--latency", "5ms").url, config=(
            f"[webhook sdk]\nurl = http://127.0.0.1:{port}/\nsecret_file = {file}\n"))
        subprocess.run(sys.argv[1:], check=True, env={
            **os.environ, "BATCHD_URL": daemon.api.base,
            "BATCHD_WEBHOOK_PORT": str(port), "BATCHD_WEBHOOK_SECRET": secret})


if __name__ == "__main__":
    result = harness.unittest.TestResult()
    Server().run(result)
    for _, text in result.failures + result.errors:
        print(text, file=sys.stderr)
    sys.exit(0 if result.wasSuccessful() else 1)

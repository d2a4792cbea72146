#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a command with a sim and a server beside it: tests/sdk/with_server.py COMMAND...

The server's URL is in BATCHD_URL; the exit status is the command's, or 1 when the checker
finds something on the server's disk afterwards."""

import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
sys.dont_write_bytecode = True

import harness  # noqa: E402  (after the path)


class Server(harness.E2E):
    limit = 300

    def runTest(self):
        daemon = self.serve(self.sim("--latency", "5ms").url)
        subprocess.run(sys.argv[1:], check=True,
                       env={**os.environ, "BATCHD_URL": daemon.api.base})


if __name__ == "__main__":
    result = harness.unittest.TestResult()
    Server().run(result)
    for _, text in result.failures + result.errors:
        print(text, file=sys.stderr)
    sys.exit(0 if result.wasSuccessful() else 1)

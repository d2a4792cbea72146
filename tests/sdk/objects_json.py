#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints one of every object that the API shows, as JSON, from a server of its own."""

import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
sys.dont_write_bytecode = True

import harness  # noqa: E402  (after the path)
import objects  # noqa: E402


class Collect(harness.E2E):
    limit = 120

    def runTest(self):
        json.dump(objects.collect(self), sys.stdout)


if __name__ == "__main__":
    result = harness.unittest.TestResult()
    Collect().run(result)
    for _, text in result.failures + result.errors:
        print(text, file=sys.stderr)
    sys.exit(0 if result.wasSuccessful() else 1)

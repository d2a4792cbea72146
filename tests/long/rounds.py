# SPDX-License-Identifier: Apache-2.0
"""rounds: what the long tests share.  A long test is a number of rounds, each a process of its own
with its own seed, servers and directory; any of them can be run again by its seed.  A round says how
much it has done in `cases` and `notes`; what it finds wrong is an exception.

A test's last lines are `row: technique | cases | seconds | violations` and `N passed, N failed`.
Of the notes, those that start with `while ` are told in a line of their own, and of those that
start with `ms ` the largest counts."""

import argparse
import collections
import concurrent.futures
import json
import os
import subprocess
import sys
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "e2e"))
sys.dont_write_bytecode = True

import harness  # noqa: E402  (after the path)
from harness import E2E  # noqa: E402


class Round(E2E):
    """One round; subclasses have work()."""

    limit = 600
    seed = 1
    size = 1

    def __init__(self):
        super().__init__("runTest")
        self.cases = 0
        self.notes = collections.Counter()

    def runTest(self):
        self.work()


def run_here(kind, seed, size):
    """Runs a round in this process; its last line is what it has to say, as JSON."""
    one = kind()
    one.seed, one.size = seed, size
    result = unittest.TestResult()
    one.run(result)
    wrong = "\n".join(text for _, text in result.failures + result.errors)
    if result.testsRun != 1 or result.skipped:
        wrong = wrong or "the round did not run"
    print(json.dumps({"cases": one.cases, "notes": one.notes, "wrong": wrong}))
    return 1 if wrong else 0


def run_there(script, seed, size):
    """Runs a round in a process of its own: what run_here() said, and the seconds."""
    start = time.monotonic()
    got = subprocess.run(
        [sys.executable, "-B", script, "--round", str(seed), "--size", str(size)],
        env={**os.environ, "BATCHD": harness.BATCHD}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    text = got.stdout.decode("utf-8", "replace").splitlines()
    try:
        said = json.loads(text[-1])
        said["wrong"] += "".join("\n" + x for x in text[:-1]) if said["wrong"] else ""
    except (IndexError, ValueError):
        said = {"cases": 0, "notes": {},
                "wrong": f"the round ended with {got.returncode}\n" + "\n".join(text)}
    return said, time.monotonic() - start


def tell(technique, what, seed, said, seconds):
    good = not said["wrong"]
    notes = ", ".join(f"{v} {k}" for k, v in said["notes"].items() if not k.startswith("while "))
    print(f"{'ok' if good else 'not ok'} {technique}, round {seed}: {said['cases']} {what} "
          f"({notes}; {seconds:.1f} s)", flush=True)
    for line in said["wrong"].splitlines():
        print("    " + line)


def main(technique, what, kind, script, rounds, size, jobs=2):
    """rounds, size: those of the whole run; `--rounds` and `--size` take less of it.
    what: the word for cases."""
    args = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    args.add_argument("--rounds", type=int, default=rounds, help=f"how many rounds ({rounds})")
    args.add_argument("--size", type=int, default=size, help=f"{what} in a round ({size})")
    args.add_argument("--seed", type=int, default=1, help="of the first round (1)")
    args.add_argument("--jobs", type=int, default=jobs, help=f"rounds at a time ({jobs})")
    args.add_argument("--round", type=int, help="run only the round of this seed, here")
    args = args.parse_args()
    if not os.access(harness.BATCHD, os.X_OK):
        sys.exit(f"{script}: {harness.BATCHD} is not there; build it with make")
    if args.round is not None:
        sys.exit(run_here(kind, args.round, args.size))
    start, cases, failed, notes = time.monotonic(), 0, 0, collections.Counter()
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        todo = {pool.submit(run_there, script, seed, args.size): seed
                for seed in range(args.seed, args.seed + args.rounds)}
        for done in concurrent.futures.as_completed(todo):
            said, seconds = done.result()
            tell(technique, what, todo[done], said, seconds)
            cases += said["cases"]
            failed += bool(said["wrong"])
            for key, n in said["notes"].items():
                notes[key] = max(notes[key], n) if key.startswith("ms ") else notes[key] + n
    told = ", ".join(f"{v:,} {k}" for k, v in notes.items() if not k.startswith("while "))
    when = ", ".join(f"{k[6:]} {v}" for k, v in notes.most_common() if k.startswith("while "))
    if when:
        print(f"while: {when}")
    print(f"row: {technique} | {cases:,} {what}; {told} | {time.monotonic() - start:.0f} | {failed}")
    print(f"{args.rounds - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)

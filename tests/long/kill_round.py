# SPDX-License-Identifier: Apache-2.0
"""kill_round: what is true after kills, however they came about: nothing that was promised is lost,
every line has one result, and none ran more often than it failed and was caught by kills."""

import collections
import http.client

import rounds
import checker


class KillRound(rounds.Round):
    """A round with kills, each of which is marked in the record of the upstream."""

    @staticmethod
    def mark(sim, n):
        """Puts the kill into the upstream's record, behind all that the dead one sent."""
        for path, body, head in (
                ("/health", None, {}),
                ("/v1/chat/completions", b'{"model":"sim-model","messages":[{"role":"user",'
                 b'"content":"kill %d"}]}' % n, {"X-Request-Id": f"kill/{n}/0"})):
            conn = http.client.HTTPConnection("127.0.0.1", sim.port, timeout=60)
            try:
                conn.request("POST" if body else "GET", path, body, head)
                conn.getresponse().read()
            except ConnectionError:
                pass  # a fault hit it; it is in the record all the same
            finally:
                conn.close()

    # The end

    def reckon(self, client, sim):
        """All of it, of a server that has nothing more to do."""
        api, watch = client.api, client.watch
        watch.check_promises(api)
        oracle = sim.oracle()
        kills = [oracle.attempts("kill", n)[0]["came_us"]
                 for n in range(1, client.daemon.crashes + 1)]
        for batch_id, job in client.jobs.items():
            if job.report is None:
                client.check(batch_id)
        for batch_id, job in client.jobs.items():
            report, reused = job.report, job.reused()
            self.executions(oracle, batch_id, report, reused, kills)
            self.notes["lines acknowledged"] += len(report.output) + len(report.errors)
            self.notes["batches"] += 1
            if not report.output and not report.errors:
                continue  # cancelled before it ran
            own = [x for x in report.output.values() if x.custom_id not in reused]
            oracle.check(report.batch, [x for x in report.lines if x.custom_id not in reused],
                         own, list(report.errors.values()), client.daemon.crashes, 5)
        for what, n in collections.Counter(
                b["status"] for b in watch.batches.values()).items():
            self.notes[what] += n

    def executions(self, oracle, batch_id, report, reused, kills):
        """A line runs again only after it failed, or when a kill came between: I11, exactly."""
        for line in report.lines:
            rows = sorted(oracle.attempts(batch_id, line.number), key=lambda r: r["came_us"])
            answered = line.custom_id in report.output or line.custom_id in report.errors
            checker.need(not rows or answered and line.custom_id not in reused, "I11",
                         f"{batch_id}: line {line.number} was not to run: {rows}")
            for a, b in zip(rows, rows[1:]):
                caught = any(a["came_us"] <= k <= b["came_us"] for k in kills)
                checker.need(caught or a["fault"] != "none", "I11",
                             f"{batch_id}: line {line.number} ran again for no reason: {a}, {b}")
                self.notes["lines run again after a kill"] += caught

    @staticmethod
    def nothing_else(client):
        """Every batch is one that was asked for, every file was sent by us or made by a batch."""
        api = client.api
        seen, after = set(), ""
        while True:
            page = api.want(200, "GET", f"/v1/batches?limit=100{after}")
            seen.update(x["id"] for x in page["data"])
            if not page["has_more"]:
                break
            after = f"&after={page['last_id']}"
        checker.need(seen == set(client.jobs), "I8",
                     f"batches {seen ^ set(client.jobs)} were lost or not asked for")
        results = {b[k] for b in client.watch.batches.values()
                   for k in ("output_file_id", "error_file_id")}
        sizes = {len(x) for x in client.pool.values()}
        for file in api.want(200, "GET", "/v1/files?limit=10000")["data"]:
            checker.need(file["id"] in results or file["id"] in client.watch.files
                         or file["bytes"] in sizes, "I9", f"a file of nobody: {file}")


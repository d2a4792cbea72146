# SPDX-License-Identifier: Apache-2.0
"""A whole round: upload, batch, answers; every endpoint and every field of every object."""

import json
import re
import time

from harness import CHAT, E2E, Refused, chat_line, chat_lines
from upstream import Upstream, ok

BODIES = {
    CHAT: lambda i: {"model": "sim-model", "messages": [{"role": "user", "content": f"q {i}"}]},
    "/v1/completions": lambda i: {"model": "sim-model", "prompt": f"q {i}", "max_tokens": 5},
    "/v1/embeddings": lambda i: {"model": "sim-model", "input": [f"a {i}", f"b {i}"]},
    "/v1/responses": lambda i: {"model": "sim-model", "input": f"q {i}"},
    "/v1/moderations": lambda i: {"model": "sim-model", "input": f"q {i}"},
    "/v1/images/generations": lambda i: {"model": "sim-model", "prompt": f"cat {i}", "n": 2},
    "/v1/images/edits": lambda i: {"model": "sim-model", "prompt": f"a hat on cat {i}",
                                   "images": [{"image_url": "data:image/png;base64,AA=="}]},
    "/v1/videos": lambda i: {"model": "sim-model", "prompt": f"cat {i} sleeps"},
}


def lines_of(endpoint, n):
    return b"".join(json.dumps({"custom_id": f"{endpoint}#{i}", "method": "POST",
                                "url": endpoint, "body": BODIES[endpoint](i)}).encode() + b"\n"
                    for i in range(n))


class Round(E2E):
    cost = 3

    def round_of(self, endpoint):
        sim = self.sim("--latency", "1ms")
        daemon = self.serve(sim.url)
        data = lines_of(endpoint, 40)
        batch_id = daemon.api.submit(data, endpoint)
        report = self.finished(daemon, batch_id, data, sim)
        self.assertEqual(len(report.output), 40)
        self.assertIsNone(report.batch["error_file_id"])
        self.assertEqual(report.batch["model"], "sim-model")
        self.assertEqual(report.batch["endpoint"], endpoint)
        for line in report.lines:
            self.assertEqual(report.output[line.custom_id].body, sim.ask(endpoint, line.body),
                             "the answer in the file is not what the upstream says")
        return report

    def test_chat_completions_come_back_whole(self):
        report = self.round_of(CHAT)
        for line in report.output.values():
            self.assertEqual(line.json["object"], "chat.completion")
            self.assertTrue(line.request_id)
        usage = report.batch["usage"]
        self.assertGreater(usage["input_tokens"], 0)
        self.assertIn("cached_tokens", usage["input_tokens_details"])
        self.assertIn("reasoning_tokens", usage["output_tokens_details"])

    def test_completions_come_back_whole(self):
        self.round_of("/v1/completions")

    def test_embeddings_come_back_whole(self):
        report = self.round_of("/v1/embeddings")
        for line in report.output.values():
            self.assertEqual(len(line.json["data"]), 2)

    def test_responses_come_back_whole(self):
        self.round_of("/v1/responses")

    def test_moderations_come_back_whole(self):
        report = self.round_of("/v1/moderations")
        self.assertIsNone(report.batch["usage"], "these answers tell none")

    def test_images_come_back_whole(self):
        report = self.round_of("/v1/images/generations")
        self.assertEqual(report.batch["usage"]["output_tokens"], 40 * 2 * 272)
        for line in report.output.values():
            self.assertEqual(len(line.json["data"]), 2)

    def test_image_edits_come_back_whole(self):
        report = self.round_of("/v1/images/edits")
        self.assertEqual(report.batch["usage"]["output_tokens"], 40 * 272)

    def test_videos_come_back_whole(self):
        report = self.round_of("/v1/videos")
        self.assertIsNone(report.batch["usage"], "these answers tell none")

    def test_every_status_on_the_way_is_seen_with_its_timestamp(self):
        upstream = Upstream(ok(b'{"object":"x"}'))
        self.addCleanup(upstream.close)
        upstream.gate.clear()
        daemon = self.serve(upstream.url)
        data = chat_lines(8)
        file_id = daemon.api.upload(data)
        before = int(time.time())
        batch = daemon.api.create(file_id, metadata={"k": "v", "ü": ""})
        self.assertEqual(batch["status"], "validating")
        self.assertRegex(batch["id"], r"^batch_[0-9a-zA-Z]+$")
        self.assertEqual(batch["request_counts"], {"total": 0, "completed": 0, "failed": 0})
        self.assertEqual(batch["expires_at"] - batch["created_at"], 86400)
        self.assertIn(batch["created_at"] - before, (0, 1))
        self.assertEqual(batch["completion_window"], "24h")
        self.assertEqual(batch["metadata"], {"k": "v", "ü": ""})
        self.assertEqual(batch["input_file_id"], file_id)
        running = daemon.api.wait(batch["id"], "in_progress")
        self.assertEqual(running["request_counts"], {"total": 8, "completed": 0, "failed": 0})
        upstream.arrived(8)
        upstream.gate.set()
        report = self.finished(daemon, batch["id"], data)
        self.assertEqual(report.batch["request_counts"], {"total": 8, "completed": 8, "failed": 0})
        self.assertIsNone(report.batch["usage"])  # no answer told any

    def test_a_batch_without_metadata_has_null_and_an_empty_one_stays_empty(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        file_id = daemon.api.upload(chat_lines(1))
        self.assertIsNone(daemon.api.create(file_id)["metadata"])
        empty = daemon.api.create(file_id, metadata={})
        self.assertEqual(empty["metadata"], {})
        daemon.api.wait(empty["id"])
        self.assertEqual(daemon.api.get(empty["id"])["metadata"], {})

    def test_lines_refused_by_the_upstream_are_in_the_error_file_with_their_answer(self):
        def answer(_path, body):
            if b"line 3" in body:
                return 400, {"Content-Type": "application/json"}, b'{"error":{"code":"bad"}}'
            return 200, {"Content-Type": "application/json"}, b'{"object":"x"}'
        upstream = Upstream(answer)
        self.addCleanup(upstream.close)
        daemon = self.serve(upstream.url)
        data = chat_lines(6)
        report = self.finished(daemon, daemon.api.submit(data), data)
        self.assertEqual(report.batch["request_counts"], {"total": 6, "completed": 5, "failed": 1})
        refused = report.errors["c-3"]
        self.assertEqual((refused.status, refused.body, refused.error),
                         (400, b'{"error":{"code":"bad"}}', None))
        self.assertEqual(len(upstream.seen), 6, "a 400 is not tried again")

    def test_a_batch_all_of_whose_lines_fail_is_completed_without_output(self):
        upstream = Upstream(lambda *_: (422, {"Content-Type": "application/json"}, b'{"e":1}'))
        self.addCleanup(upstream.close)
        daemon = self.serve(upstream.url)
        data = chat_lines(5)
        report = self.finished(daemon, daemon.api.submit(data), data)
        self.assertIsNone(report.batch["output_file_id"])
        self.assertEqual(report.batch["request_counts"], {"total": 5, "completed": 0, "failed": 5})

    def test_many_batches_at_once_each_get_their_own_answers(self):
        sim = self.sim("--latency", "2ms")
        daemon = self.serve(sim.url)
        inputs = [chat_lines(50, first=1000 * i) for i in range(12)]
        ids = [daemon.api.submit(data) for data in inputs]
        for batch_id, data in zip(ids, inputs):
            self.finished(daemon, batch_id, data, sim)
        listed = daemon.api.want(200, "GET", "/v1/batches?limit=100")["data"]
        self.assertEqual([b["id"] for b in listed], ids[::-1])

    def test_fifty_thousand_lines_come_back_whole(self):
        sim = self.sim("--latency", "0ms")
        daemon = self.serve(sim.url, flags=["--max-inflight", "128"])
        data = chat_lines(50000)
        batch_id = daemon.api.submit(data)
        self.finished(daemon, batch_id, data, sim, timeout=90)
    test_fifty_thousand_lines_come_back_whole.cost = 20

    limit = 120


class Upstreams(E2E):
    cost = 3

    def test_the_request_carries_its_id_and_the_upstreams_path(self):
        upstream = Upstream(ok(b'{"object":"x"}'))
        self.addCleanup(upstream.close)
        daemon = self.serve(upstream.url + "/")
        data = b"\n" + chat_line(0) + b"\n"
        batch_id = daemon.api.submit(data)
        self.finished(daemon, batch_id, data)
        path, headers, _ = upstream.seen[0]
        headers = {k.lower(): v for k, v in headers.items()}
        self.assertEqual(path, CHAT)
        self.assertTrue(headers["x-request-id"].startswith(f"{batch_id}/2/"), headers)
        self.assertEqual(headers["content-type"].split(";")[0], "application/json")
        self.assertNotIn("expect", headers)
        self.assertNotIn("authorization", headers)

    def test_an_upstreams_key_is_sent_to_it_and_shown_nowhere(self):
        upstream = Upstream(ok(b'{"object":"x"}'))
        self.addCleanup(upstream.close)
        key_file = self.path("key", b"sk-very-secret\n")
        daemon = self.serve([], config=f"[upstream a]\nurl = {upstream.url}\n"
                                       f"key_file = {key_file}\n")
        data = chat_lines(2)
        self.finished(daemon, daemon.api.submit(data), data)
        headers = {k.lower(): v for k, v in upstream.seen[0][1].items()}
        self.assertEqual(headers["authorization"], "Bearer sk-very-secret")
        seen = daemon.proc.errors() + daemon.api.call("GET", "/metrics").body.decode()
        self.assertNotIn("very-secret", seen)

    def test_two_upstreams_share_the_work(self):
        one, two = self.sim("--latency", "5ms"), self.sim("--latency", "5ms")
        daemon = self.serve([one.url, two.url])
        data = chat_lines(400)
        self.finished(daemon, daemon.api.submit(data), data)
        rows = [len(sim.oracle().rows) for sim in (one, two)]
        self.assertEqual(sum(rows), 400)
        self.assertGreater(min(rows), 50, f"one of them was left idle: {rows}")

    def test_no_more_requests_are_in_flight_than_allowed(self):
        upstream = Upstream(ok(b'{"object":"x"}'))
        self.addCleanup(upstream.close)
        upstream.gate.clear()
        daemon = self.serve(upstream.url, flags=["--max-inflight", "7"])
        data = chat_lines(40)
        batch_id = daemon.api.submit(data)
        upstream.arrived(7)
        time.sleep(0.3)
        self.assertEqual(len(upstream.seen), 7)
        upstream.gate.set()
        self.finished(daemon, batch_id, data)

    def test_results_reach_the_file_while_one_slow_line_holds_the_batch(self):
        upstream = Upstream(ok(b'{"object":"x"}'))
        self.addCleanup(upstream.close)
        slow = Upstream(ok(b'{"object":"x"}'))
        self.addCleanup(slow.close)
        slow.gate.clear()
        daemon = self.serve([upstream.url, slow.url], flags=["--max-inflight", "4"])
        data = chat_lines(60)
        batch_id = daemon.api.submit(data)
        slow.arrived(1)
        daemon.api.wait(batch_id, "in_progress")
        end = time.monotonic() + 15
        while daemon.api.get(batch_id)["request_counts"]["completed"] < 60 - 4:
            self.assertLess(time.monotonic(), end, "the counts stand still")
            time.sleep(0.02)
        slow.gate.set()
        self.finished(daemon, batch_id, data)


class Surroundings(E2E):
    def test_health_readiness_metrics_and_models_answer(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        self.assertEqual(daemon.api.call("GET", "/healthz").status, 200)
        self.assertEqual(daemon.api.call("GET", "/readyz").status, 200)
        data = chat_lines(5)
        self.finished(daemon, daemon.api.submit(data), data, sim)
        text = daemon.api.call("GET", "/metrics").body.decode()
        self.assertRegex(text, r"(?m)^# TYPE batchd_\w+ (counter|gauge|histogram)$")
        for line in text.splitlines():
            self.assertRegex(
                line, r'^(#.*|[a-zA-Z_:][\w:]*(\{(\w+="[^"\\]*",?)*\})? [0-9.eE+-]+)$')
        models = daemon.api.want(200, "GET", "/v1/models")
        self.assertEqual(models["object"], "list")

    def test_every_answer_has_a_request_id_and_errors_have_openais_form(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        for method, path, status in (
                ("GET", "/v1/batches/batch_0", 404), ("GET", "/v1/files/file-0", 404),
                ("GET", "/v1/nothing", 404), ("PUT", "/v1/files", 405),
                ("GET", "/v1/batches?limit=0", 400), ("GET", "/v1/batches?limit=x", 400),
                ("POST", "/v1/batches/batch_0/cancel", 404), ("DELETE", "/v1/files/file-0", 404)):
            got = daemon.api.call(method, path)
            with self.subTest(f"{method} {path}"):
                self.assertEqual(got.status, status, got)
                self.assertTrue(got.headers.get("x-request-id"))
                self.assertEqual(set(got.error), {"message", "type", "param", "code"})
                self.assertEqual(got.error["type"], "invalid_request_error")

    def test_a_batch_can_be_asked_for_only_in_allowed_ways(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        file_id = daemon.api.upload(chat_lines(1))
        good = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
        cases = [
            ({**good, "endpoint": "/v1/nothing"}, "endpoint"),
            ({**good, "completion_window": "soon"}, "completion_window"),
            ({**good, "completion_window": "0s"}, "completion_window"),
            ({**good, "completion_window": "31d"}, "completion_window"),
            ({**good, "metadata": {"tags": ["a"]}}, "metadata"),
            ({**good, "metadata": {"k" * 65: "v"}}, "metadata"),
            ({**good, "metadata": {"k": "v" * 513}}, "metadata"),
            ({**good, "metadata": {str(i): "v" for i in range(17)}}, "metadata"),
            ({**good, "input_file_id": 7}, "input_file_id"),
            ({k: v for k, v in good.items() if k != "endpoint"}, "endpoint"),
            ({k: v for k, v in good.items() if k != "input_file_id"}, "input_file_id"),
            ([], None),
        ]
        before = daemon.api.want(200, "GET", "/v1/batches")["data"]
        for body, param in cases:
            with self.subTest(json.dumps(body)[:120]):
                got = daemon.api.call("POST", "/v1/batches", body)
                self.assertEqual(got.status, 400, got)
                if param:
                    self.assertIn(param, (got.error["param"] or "") + got.error["message"])
        got = daemon.api.call("POST", "/v1/batches", b"{not json",
                              {"Content-Type": "application/json"})
        self.assertEqual(got.status, 400, got)
        self.assertEqual(daemon.api.want(200, "GET", "/v1/batches")["data"], before, "I15")

    def test_an_unknown_input_file_fails_the_batch_not_the_call(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        batch = daemon.api.create("file-00000000000000000000000000000000")
        batch = daemon.api.wait(batch["id"], "failed")
        error = batch["errors"]["data"][0]
        self.assertEqual((error["code"], error["param"]), ("invalid_request", "file_id"))

    def test_every_file_operation(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        api = daemon.api
        data = chat_lines(3)
        file_id = api.upload(data, 'näme "x".jsonl'.replace('"', "%22"))
        file = api.want(200, "GET", f"/v1/files/{file_id}")
        self.assertEqual(set(file), {"id", "object", "bytes", "created_at", "expires_at",
                                     "filename", "purpose", "status", "status_details"})
        self.assertEqual((file["object"], file["status"], file["purpose"], file["bytes"]),
                         ("file", "processed", "batch", len(data)))
        self.assertTrue(re.fullmatch(r"file-[0-9A-Za-z]+", file_id))
        got = api.call("GET", f"/v1/files/{file_id}/content")
        self.assertEqual(got.body, data)
        self.assertIn("attachment", got.headers["content-disposition"])
        head = api.call("HEAD", f"/v1/files/{file_id}/content")
        self.assertEqual((head.status, head.headers["content-length"], head.body),
                         (200, str(len(data)), b""))
        ranged = api.call("GET", f"/v1/files/{file_id}/content",
                          headers={"Range": "bytes=10-19"})
        self.assertEqual((ranged.status, ranged.body), (206, data[10:20]))
        beyond = api.call("GET", f"/v1/files/{file_id}/content",
                          headers={"Range": f"bytes={len(data)}-"})
        self.assertEqual(beyond.status, 416)
        self.assertEqual(api.delete(file_id), {"id": file_id, "object": "file", "deleted": True})
        self.assertEqual(api.call("GET", f"/v1/files/{file_id}").status, 404)
        self.assertEqual(api.call("DELETE", f"/v1/files/{file_id}").status, 404)

    def test_lists_page_by_id_without_gaps_or_repeats(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        api = daemon.api
        file_ids = [api.upload(chat_lines(1), f"{i}.jsonl") for i in range(7)]
        batch_ids = [api.create(file_ids[0])["id"] for _ in range(7)]
        for path, ids in (("/v1/batches?", batch_ids[::-1]),
                          ("/v1/files?purpose=batch&order=asc&", file_ids),
                          ("/v1/files?purpose=batch&", file_ids[::-1])):
            got, after = [], ""
            while True:
                page = api.want(200, "GET", f"{path}limit=3{after}")
                self.assertEqual(page["first_id"], page["data"][0]["id"])
                self.assertEqual(page["last_id"], page["data"][-1]["id"])
                got += [x["id"] for x in page["data"]]
                if not page["has_more"]:
                    break
                after = "&after=" + page["last_id"]
            self.assertEqual(got, ids, path)
        nothing = api.want(200, "GET", "/v1/files?purpose=fine-tune")
        self.assertEqual((nothing["data"], nothing["first_id"], nothing["has_more"]),
                         ([], None, False))
        for batch_id in batch_ids:
            api.wait(batch_id)

    def test_uploads_that_are_refused_leave_nothing(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        api = daemon.api
        mark = {"Content-Type": "multipart/form-data; boundary=x"}
        for body, headers in (
                (b"", mark),
                (b"--x\r\nnonsense", mark),
                (b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x--\r\n',
                 mark),
                (b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
                 b"{}\r\n--x--\r\n", mark),
                (b"{}", {"Content-Type": "application/json"})):
            with self.subTest(body[:60]):
                self.assertEqual(api.call("POST", "/v1/files", body, headers).status, 400)
        self.assertEqual(api.upload_raw(b"{}", purpose="no-such-purpose").status, 400)
        self.assertEqual(api.want(200, "GET", "/v1/files")["data"], [])

    def test_uploads_in_chunks_of_any_size(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        data = chat_lines(60000)
        head = (b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x\r\n'
                b'Content-Disposition: form-data; name="file"; filename="in.jsonl"\r\n\r\n')
        whole = head + data + b"\r\n--x--\r\n"
        for size in (1000, 65536, 1 << 20, len(whole)):
            with self.subTest(size):
                got = daemon.api.call(
                    "POST", "/v1/files", (whole[i:i + size] for i in range(0, len(whole), size)),
                    {"Content-Type": "multipart/form-data; boundary=x"})
                self.assertEqual((got.status, got.json["bytes"]), (200, len(data)), got)
                self.assertEqual(daemon.api.content(got.json["id"]), data)

    def test_an_upload_cut_off_half_way_leaves_nothing(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        for _ in range(5):
            with self.assertRaises(OSError):
                self.half_upload(daemon.api)
        self.assertEqual(daemon.api.want(200, "GET", "/v1/files")["data"], [])

    @staticmethod
    def half_upload(api):
        import socket
        host, port = api.host.split(":")
        with socket.create_connection((host, int(port)), timeout=10) as s:
            s.sendall(b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n"
                      b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
                      b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
                      + b"y" * 1000000)
            s.shutdown(socket.SHUT_WR)
            raise OSError("cut off")

    def test_the_real_sdks_odd_ways_of_asking_are_taken(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        api = daemon.api
        file_id = api.upload(chat_lines(1))
        noise = {"X-Stainless-Lang": "python", "OpenAI-Organization": "o", "OpenAI-Project": "p",
                 "Authorization": "Bearer anything", "Idempotency-Key": "k"}
        batch = api.want(200, "POST", "/v1/batches", {
            "input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h",
            "extra": {"a": 1}}, noise)
        for path in ("/v1/batches/", f"/v1/batches/{batch['id']}/", "/v1/batches?limit=",
                     "/v1/files?limit=&after="):
            with self.subTest(path):
                self.assertEqual(api.call("GET", path, headers=noise).status, 200)
        api.wait(batch["id"])

    def test_refusals_are_not_acknowledgements(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        with self.assertRaises(Refused):
            daemon.api.create("file-none", endpoint="/v1/nope")

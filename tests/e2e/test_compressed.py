# SPDX-License-Identifier: Apache-2.0
"""Request bodies that come compressed."""

import gzip
import os

from harness import E2E, chat_lines

MARK = "----batchd-e2e-mark"


def form(data, purpose="batch"):
    return (f'--{MARK}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n{purpose}\r\n'
            f'--{MARK}\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
            ).encode() + data + f"\r\n--{MARK}--\r\n".encode()


class Compressed(E2E):
    HEAD = {"Content-Type": f"multipart/form-data; boundary={MARK}", "Content-Encoding": "gzip"}

    def test_a_compressed_upload_and_a_compressed_create_run_like_plain_ones(self):
        sim = self.sim()
        daemon = self.serve(sim.url, config="[server]\ncompressed_bodies = yes\n")
        data = chat_lines(500)
        got = daemon.api.call("POST", "/v1/files", gzip.compress(form(data)), self.HEAD)
        self.assertEqual(got.status, 200, got)
        daemon.watch.uploaded(got.json, data)
        self.assertEqual(daemon.api.content(got.json["id"]), data)
        body = (f'{{"input_file_id":"{got.json["id"]}","endpoint":"/v1/chat/completions",'
                '"completion_window":"24h"}').encode()
        got = daemon.api.call("POST", "/v1/batches", gzip.compress(body), {
            "Content-Type": "application/json", "Content-Encoding": "gzip"})
        self.assertEqual(got.status, 200, got)
        self.finished(daemon, got.json["id"], data, sim)

    def test_bombs_and_cut_bodies_leave_nothing(self):
        sim = self.sim()
        daemon = self.serve(sim.url, config="[server]\ncompressed_bodies = yes\n"
                                            "max_expansion = 50\n")
        bomb = gzip.compress(form(b"\0" * 50_000_000))
        got = daemon.api.call("POST", "/v1/files", bomb, self.HEAD)
        self.assertEqual((got.status, got.error["code"]), (413, "request_too_large"))
        whole = gzip.compress(form(os.urandom(300_000), "user_data"))
        for body in (whole[:-1], whole[:100], b"", b"plain"):
            got = daemon.api.call("POST", "/v1/files", body, self.HEAD)
            self.assertEqual(got.status, 400, got)
        self.assertEqual(daemon.api.want(200, "GET", "/v1/files")["data"], [])
        self.assertEqual(os.listdir(os.path.join(daemon.data, "tmp")), [])

    def test_they_are_refused_unless_configured(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        got = daemon.api.call("POST", "/v1/files", gzip.compress(form(b"x\n")), self.HEAD)
        self.assertEqual((got.status, got.error["code"]), (415, "unsupported_content_encoding"))

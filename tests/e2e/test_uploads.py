# SPDX-License-Identifier: Apache-2.0
"""Files in parts: many at a time, in any order, through crashes, full disks and the hour."""

import concurrent.futures
import hashlib
import http.client
import os
import random
import sqlite3
import threading
import time

from harness import SLOWER, E2E, chat_line, chat_lines, until

MIB = 1 << 20


def form(data, name="data"):
    mark = "----batchd-e2e-" + os.urandom(12).hex()
    head = (f'--{mark}\r\nContent-Disposition: form-data; name="{name}"; filename="blob"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n").encode()
    return (head + data + f"\r\n--{mark}--\r\n".encode(),
            {"Content-Type": f"multipart/form-data; boundary={mark}"})


def create(api, size, filename="in.jsonl", purpose="batch", **more):
    return api.want(200, "POST", "/v1/uploads", {
        "filename": filename, "purpose": purpose, "bytes": size,
        "mime_type": "application/jsonl", **more})


def send_part(api, upload_id, data):
    body, headers = form(data)
    return api.call("POST", f"/v1/uploads/{upload_id}/parts", body, headers, timeout=120)


def part(api, upload_id, data):
    got = send_part(api, upload_id, data)
    assert got.status == 200, got
    return got.json["id"]


def send_complete(api, upload_id, part_ids, **more):
    return api.call("POST", f"/v1/uploads/{upload_id}/complete",
                    {"part_ids": part_ids, **more}, timeout=120)


def complete(api, upload_id, part_ids, **more):
    got = send_complete(api, upload_id, part_ids, **more)
    assert got.status == 200, got
    return got.json


def cut(data, n, rng):
    """data as n pieces of uneven sizes."""
    at = sorted(rng.sample(range(1, len(data)), n - 1))
    return [data[a:b] for a, b in zip([0, *at], [*at, len(data)])]


def on_disk(daemon, prefix):
    return [name for _, _, names in os.walk(os.path.join(daemon.data, "files"))
            for name in names if name.startswith(prefix)]


class Uploads(E2E):
    cost = 4
    limit = 120

    def refused(self, got, status, says, param=None):
        self.assertEqual(got.status, status, got)
        self.assertEqual(got.error["type"], "invalid_request_error")
        self.assertEqual(got.error["param"], param, got)
        self.assertIn(says, got.error["message"])

    def test_sixteen_parts_by_eight_threads_out_of_order(self):
        rng = random.Random(7)
        daemon = self.serve(self.sim().url)
        api = daemon.api
        data = rng.randbytes(9 * MIB + 12345)
        pieces = cut(data, 16, rng)
        upload = create(api, len(data), "any.bin", "user_data")
        order = list(range(16))
        rng.shuffle(order)
        ids = [None] * 16

        def send(i):
            ids[i] = part(api, upload["id"], pieces[i])
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(send, order))
        self.assertEqual(len(set(ids)), 16)
        done = complete(api, upload["id"], ids, md5=hashlib.md5(data).hexdigest())
        self.assertEqual((done["status"], done["bytes"]), ("completed", len(data)))
        self.assertEqual((done["file"]["object"], done["file"]["bytes"]), ("file", len(data)))
        daemon.watch.uploaded(done["file"], data)
        self.assertEqual(api.content(done["file"]["id"]), data)
        self.assertEqual(on_disk(daemon, "part_"), [])

    def test_many_uploads_at_the_same_time_do_not_mix(self):
        daemon = self.serve(self.sim().url)

        def one(i):
            rng = random.Random(i)
            data = rng.randbytes(rng.randrange(1000, 300000))
            upload = create(daemon.api, len(data), f"{i}.bin", "evals")
            ids = [part(daemon.api, upload["id"], x) for x in cut(data, 5, rng)]
            file = complete(daemon.api, upload["id"], ids)["file"]
            daemon.watch.uploaded(file, data)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(one, range(24)))
        daemon.watch.check_promises(daemon.api)

    def test_a_completed_upload_is_the_input_of_a_batch(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        data = chat_lines(300)
        upload = create(daemon.api, len(data), expires_after={
            "anchor": "created_at", "seconds": 7200})
        third = len(data) // 3 + 1
        ids = [part(daemon.api, upload["id"], data[i:i + third])
               for i in range(0, len(data), third)]
        file = complete(daemon.api, upload["id"], ids)["file"]
        self.assertEqual((file["purpose"], file["filename"]), ("batch", "in.jsonl"))
        self.assertEqual(file["expires_at"] - file["created_at"], 7200)
        daemon.watch.uploaded(file, data)
        self.finished(daemon, daemon.api.create(file["id"])["id"], data, sim)

    def test_200_MB_take_constant_memory(self):
        daemon = self.serve(self.sim().url)
        line = chat_line(1, "x" * 100000) + b"\n"
        data = (line * (200 * MIB // len(line) + 1))[:200 * MIB - 1] + b"\n"
        upload = create(daemon.api, len(data))
        ids = [part(daemon.api, upload["id"], data[i:i + 64 * MIB])
               for i in range(0, len(data), 64 * MIB)]
        self.assertEqual(len(ids), 4)
        file = complete(daemon.api, upload["id"], ids)["file"]
        head = daemon.api.call("HEAD", f"/v1/files/{file['id']}/content")
        self.assertEqual(head.headers["content-length"], str(len(data)))
        self.assertEqual(head.headers["etag"], f'"{hashlib.sha256(data).hexdigest()}"')
        with open(f"/proc/{daemon.proc.pid}/status", encoding="ascii") as f:
            peak = int(next(x for x in f if x.startswith("VmHWM")).split()[1])
        if SLOWER == 1:  # sanitizers have memory of their own
            self.assertLess(peak, 64 << 10, "kB at the most")

    def test_a_part_over_64_MB_is_refused(self):
        daemon = self.serve(self.sim().url)
        upload = create(daemon.api, 100 * MIB, "a.bin", "user_data")
        self.refused(send_part(daemon.api, upload["id"], bytes(64 * MIB + 1)), 413,
                     "larger than 67108864 bytes", "data")
        part(daemon.api, upload["id"], bytes(64 * MIB))
        self.assertEqual(len(on_disk(daemon, "part_")), 1)

    def test_the_parts_of_an_upload_have_a_bound(self):
        daemon = self.serve(self.sim().url)
        upload = create(daemon.api, 10, "a.bin", "user_data")
        self.refused(send_part(daemon.api, upload["id"], bytes(11)), 400, "made for 10 bytes")
        ids = [part(daemon.api, upload["id"], bytes(10)) for _ in range(4)]
        self.refused(send_part(daemon.api, upload["id"], b"x"), 400, "40 already")
        self.assertEqual(sorted(on_disk(daemon, "part_")), sorted(ids))
        complete(daemon.api, upload["id"], ids[2:3])

    # The end of an upload

    def test_wrong_completes_leave_the_upload_pending(self):
        api = self.serve(self.sim().url).api
        upload = create(api, 6, "a.txt", "user_data")
        other = create(api, 6, "b.txt", "user_data")
        one, two = part(api, upload["id"], b"abc"), part(api, upload["id"], b"def")
        foreign = part(api, other["id"], b"def")
        where = upload["id"]
        self.refused(send_complete(api, where, [one]), 400, "3 bytes", "part_ids")
        self.refused(send_complete(api, where, [one, one]), 400, "named twice", "part_ids")
        self.refused(send_complete(api, where, [one, foreign]), 400, foreign, "part_ids")
        self.refused(send_complete(api, where, [one, "part_x"]), 400, "part_x", "part_ids")
        self.refused(send_complete(api, where, [two, one], md5=hashlib.md5(b"abcdef").hexdigest()),
                     400, hashlib.md5(b"defabc").hexdigest(), "md5")
        self.refused(send_complete(api, "upload_x", [one]), 404, "upload_x", "upload_id")
        self.assertEqual(api.want(200, "GET", "/v1/files")["data"], [])
        file = complete(api, where, [two, one])["file"]
        self.assertEqual(api.content(file["id"]), b"defabc")

    def test_completing_again_answers_with_the_same_file(self):
        daemon = self.serve(self.sim().url)
        api = daemon.api
        upload = create(api, 300000, "a.bin", "user_data")
        ids = [part(api, upload["id"], os.urandom(100000)) for _ in range(3)]
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            got = list(pool.map(lambda _: complete(api, upload["id"], ids), range(12)))
        self.assertTrue(all(x == got[0] for x in got), got)
        self.assertEqual(len(api.want(200, "GET", "/v1/files")["data"]), 1)
        daemon.restart()
        self.assertEqual(complete(daemon.api, upload["id"], ids), got[0])
        self.refused(send_part(daemon.api, upload["id"], b"x"), 400, "'completed'")
        self.refused(daemon.api.call("POST", f"/v1/uploads/{upload['id']}/cancel"), 400,
                     "'completed'")

    def test_a_cancelled_upload_takes_nothing_and_keeps_nothing(self):
        daemon = self.serve(self.sim().url)
        api = daemon.api
        upload = create(api, 6, "a.bin", "user_data")
        first = part(api, upload["id"], b"abcdef")
        got = api.want(200, "POST", f"/v1/uploads/{upload['id']}/cancel")
        self.assertEqual((got["status"], got["file"]), ("cancelled", None))
        self.assertEqual(api.want(200, "POST", f"/v1/uploads/{upload['id']}/cancel"), got)
        self.refused(send_part(api, upload["id"], b"x"), 400, "'cancelled'")
        self.refused(send_complete(api, upload["id"], [first]), 400, "'cancelled'")
        self.assertEqual(on_disk(daemon, "part_"), [])

    def test_an_upload_ends_after_its_hour(self):
        daemon = self.serve(self.sim().url)
        upload = create(daemon.api, 6, "a.bin", "user_data")
        self.assertEqual(upload["expires_at"] - upload["created_at"], 3600)
        first = part(daemon.api, upload["id"], b"abcdef")
        self.assertEqual(on_disk(daemon, "part_"), [first])
        daemon.stop()
        # The hour passes.
        db = sqlite3.connect(os.path.join(daemon.data, "ledger.db"))
        db.execute("UPDATE uploads SET created_at = created_at - 3600, expires_at = expires_at"
                   " - 3600")
        db.commit()
        db.close()
        daemon.start()
        self.refused(send_part(daemon.api, upload["id"], b"x"), 400, "'expired'")
        self.refused(send_complete(daemon.api, upload["id"], [first]), 400, "'expired'")
        self.refused(daemon.api.call("POST", f"/v1/uploads/{upload['id']}/cancel"), 400,
                     "'expired'")
        until("the part's bytes to go", lambda: on_disk(daemon, "part_") == [])

    # Crashes and disks

    def test_kills_during_parts_and_complete_lose_nothing(self):
        rng = random.Random(int(os.environ.get("BATCHD_E2E_SEED", "1")))
        daemon = self.serve(self.sim().url)
        data = rng.randbytes(12 * MIB)
        pieces = cut(data, 24, rng)
        upload = create(daemon.api, len(data), "a.bin", "user_data")
        ids = [None] * len(pieces)
        for _ in range(8):
            self.killed(daemon, rng, lambda: self.send_missing(daemon, upload, pieces, ids))
        self.send_missing(daemon, upload, pieces, ids)
        done = []
        for _ in range(8):
            self.killed(daemon, rng, lambda: done.append(
                complete(daemon.api, upload["id"], ids)))
        done.append(complete(daemon.api, upload["id"], ids))
        self.assertTrue(all(x == done[0] for x in done), done)
        daemon.watch.uploaded(done[0]["file"], data)
        self.assertEqual(daemon.api.content(done[0]["file"]["id"]), data)
        listed = daemon.api.want(200, "GET", "/v1/files")["data"]
        self.assertEqual([x["id"] for x in listed], [done[0]["file"]["id"]])

    @staticmethod
    def send_missing(daemon, upload, pieces, ids):
        """Sends what was not acknowledged; a part whose answer was lost goes twice."""
        for i, piece in enumerate(pieces):
            if ids[i] is None:
                ids[i] = part(daemon.api, upload["id"], piece)

    @staticmethod
    def killed(daemon, rng, work):
        """Does the work until the server is killed under it."""
        def do():
            try:
                work()
            except (OSError, http.client.HTTPException):
                pass
        thread = threading.Thread(target=do)
        thread.start()
        time.sleep(rng.choice([0.0, 0.005, 0.02, 0.05]))
        daemon.kill9()
        thread.join()
        daemon.start()

    def test_a_full_disk_refuses_and_the_upload_goes_on_later(self):
        daemon = self.serve(self.sim().url, file_limit=2 * MIB)
        upload = create(daemon.api, 3 * MIB, "a.bin", "user_data")
        got = send_part(daemon.api, upload["id"], bytes(3 * MIB))
        self.assertEqual((got.status, got.error["code"]), (503, "insufficient_storage"))
        ids = [part(daemon.api, upload["id"], os.urandom(MIB)) for _ in range(3)]
        got = send_complete(daemon.api, upload["id"], ids)
        self.assertEqual((got.status, got.error["code"]), (503, "insufficient_storage"))
        self.assertEqual(len(on_disk(daemon, "part_")), 3)
        self.assertEqual(on_disk(daemon, "file-"), [])
        daemon.stop()
        daemon.file_limit = None
        daemon.start()
        self.assertEqual(complete(daemon.api, upload["id"], ids)["file"]["bytes"], 3 * MIB)

    # Limits

    def test_a_project_keeps_to_its_quota(self):
        daemon = self.serve(self.sim().url, config="""
            [limits]
            max_upload_size = 100M
            [project default]
            max_bytes = 1M
            max_files = 3
        """)
        api = daemon.api
        self.refused(api.call("POST", "/v1/uploads", {
            "filename": "a", "purpose": "evals", "bytes": 200 * MIB, "mime_type": "x"}),
            400, "<= 104857600", "bytes")
        self.refused(api.call("POST", "/v1/uploads", {
            "filename": "a", "purpose": "evals", "bytes": 2 * MIB, "mime_type": "x"}),
            400, "limit of 1048576")
        self.refused(api.upload_raw(bytes(2 * MIB), "a", "evals"), 413,
                     "the most that this project takes", "file")
        first = api.upload(bytes(700000), "a", "evals")
        self.refused(api.upload_raw(bytes(700000), "a", "evals"), 400, "limit of 1048576")
        upload = create(api, 300000, "b", "evals")
        piece = part(api, upload["id"], bytes(300000))
        self.refused(send_part(api, upload["id"], bytes(200000)), 400, "limit of 1048576")
        self.refused(api.upload_raw(bytes(100000), "a", "evals"), 400, "limit of 1048576")
        complete(api, upload["id"], [piece])
        api.upload(b"x", "c", "evals")
        self.refused(api.upload_raw(b"x", "d", "evals"), 400, "limit is 3")
        api.delete(first)
        api.upload(b"x", "d", "evals")

    def test_all_projects_together_keep_to_the_total(self):
        api = self.serve(self.sim().url, config="[limits]\nmax_total_size = 1M\n").api
        api.upload(bytes(700000), "a", "evals")
        self.refused(api.upload_raw(bytes(700000), "a", "evals"), 400, "1048576 bytes in all")
        api.upload(bytes(300000), "a", "evals")

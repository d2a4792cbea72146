# SPDX-License-Identifier: Apache-2.0
"""Full disks, damaged files, and everything a start can fail on: the exit codes of
batchd(1) and one clear sentence."""

import ctypes
import glob
import os
import shutil
import socket
import sqlite3
import time

import checker
from harness import BATCHD, E2E, Proc, chat_lines, until
from upstream import Upstream, ok

_libc = ctypes.CDLL(None, use_errno=True)


class Small:
    """A tmpfs of some megabytes; needs root."""

    def __init__(self, path, megabytes):
        self.path = path
        os.mkdir(path)
        if _libc.mount(b"none", path.encode(), b"tmpfs", 0, f"size={megabytes}m".encode()):
            raise OSError(ctypes.get_errno(), "mount")

    def fill(self):
        """Takes all room that is left."""
        with open(os.path.join(self.path, "ballast"), "ab", buffering=0) as f:
            for size in (1 << 20, 4096):
                try:
                    while True:
                        f.write(b"\0" * size)
                except OSError:
                    pass

    def empty(self):
        os.unlink(os.path.join(self.path, "ballast"))

    def close(self):
        _libc.umount2(self.path.encode(), 2)  # MNT_DETACH


class Full(E2E):
    cost = 10
    limit = 90

    def small(self, megabytes):
        if os.geteuid() != 0:
            return None
        try:
            small = Small(os.path.join(self.dir, "small"), megabytes)
        except OSError:
            return None  # a container without the right to mount
        self.addCleanup(small.close)
        return small

    def test_a_full_disk_pauses_a_batch_and_room_lets_it_finish(self):
        small = self.small(48)
        if not small:
            self.batch_over_a_file_limit()
            return
        upstream = Upstream(ok(b'{"object":"x","s":"' + b"y" * 2000 + b'"}'))
        self.addCleanup(upstream.close)
        upstream.gate.clear()
        daemon = self.serve(upstream.url, data=os.path.join(small.path, "data"))
        data = chat_lines(3000)
        batch_id = daemon.api.submit(data)
        upstream.arrived(1)
        small.fill()
        upstream.gate.set()
        time.sleep(2)
        batch = daemon.api.get(batch_id)
        self.assertEqual((batch["status"], batch["request_counts"]["failed"]), ("in_progress", 0))
        why = daemon.api.want(200, "GET", f"/v1/batches/{batch_id}/progress")["why"]
        self.assertEqual(why, "The server's disk is full; calls go on as soon as there is space.")
        got = daemon.api.upload_raw(chat_lines(20000))
        self.assertGreaterEqual(got.status, 500, "clients must see that they may try again")
        small.empty()
        report = self.finished(daemon, batch_id, data, timeout=40)
        self.assertEqual(len(report.output), 3000)
        daemon.api.upload(chat_lines(100))
        daemon.stop()
        daemon.start()
        daemon.watch.check_promises(daemon.api)
        daemon.settled()

    def test_answers_that_find_no_room_are_taken_over_when_there_is_some(self):
        small = self.small(48)
        if not small:
            return  # the reuse test of the engine has its crashes
        upstream = Upstream(ok(b'{"object":"x","s":"' + b"y" * 2500 + b'"}'))
        self.addCleanup(upstream.close)
        daemon = self.serve(upstream.url, data=os.path.join(small.path, "data"))
        data = chat_lines(3000)
        first = daemon.api.wait(daemon.api.submit(data), "completed")
        again = daemon.api.upload(data)
        small.fill()
        with open(os.path.join(small.path, "ballast"), "r+b") as f:
            f.truncate(os.fstat(f.fileno()).st_size - (3 << 20))  # less than the answers take
        batch_id = daemon.api.create(again, continue_from=first["id"])["id"]
        until("the batch to wait for room", lambda: "ev=batch.waits" in daemon.proc.errors())
        self.assertEqual(daemon.api.get(batch_id)["status"], "validating")
        small.empty()
        second = daemon.api.wait(batch_id, "completed", timeout=40)
        self.assertEqual(second["request_counts"], {"total": 3000, "completed": 3000, "failed": 0})
        self.assertEqual(daemon.api.output(second), daemon.api.output(first))
        self.assertEqual(len(upstream.seen), 3000)
        daemon.settled()

    def batch_over_a_file_limit(self):
        """The nearest thing without the right to mount: no file may pass one megabyte."""
        sim = self.sim("--tokens", "500")
        daemon = self.serve(sim.url, file_limit=1 << 20)
        data = chat_lines(3000)
        batch_id = daemon.api.submit(data)
        time.sleep(3)
        self.assertEqual(daemon.api.get(batch_id)["request_counts"]["failed"], 0)
        daemon.kill9()
        daemon.file_limit = None
        daemon.start()
        daemon.api.wait(batch_id, "completed", patient=True)
        self.finished(daemon, batch_id, data)

    def test_a_crash_on_a_full_disk_recovers_when_there_is_room(self):
        small = self.small(32)
        if not small:
            self.batch_over_a_file_limit()
            return
        sim = self.sim("--tokens", "300", "--latency", "5ms")
        daemon = self.serve(sim.url, data=os.path.join(small.path, "data"))
        data = chat_lines(4000)
        batch_id = daemon.api.submit(data)
        daemon.api.wait(batch_id, "in_progress")
        time.sleep(0.3)
        small.fill()
        time.sleep(0.5)
        daemon.kill9()
        small.empty()
        daemon.start()
        daemon.api.wait(batch_id, "completed", timeout=40, patient=True)
        self.finished(daemon, batch_id, data)
        daemon.settled()

    def test_a_file_over_the_process_limit_is_refused_and_the_server_lives(self):
        sim = self.sim()
        daemon = self.serve(sim.url, file_limit=1 << 20)
        got = daemon.api.upload_raw(b"x" * (3 << 20))
        self.assertGreaterEqual(got.status, 500)
        data = chat_lines(50)
        self.finished(daemon, daemon.api.submit(data), data, sim)
        self.assertEqual(len(daemon.api.want(200, "GET", "/v1/files?purpose=batch")["data"]), 1)


class Damage(E2E):
    """What is damaged behind its back costs time, or is refused; it is never believed."""

    cost = 4

    def half_done(self):
        sim = self.sim("--latency", "5ms")
        daemon = self.serve(sim.url, flags=["--max-inflight", "16"])
        data = chat_lines(3000)
        batch_id = daemon.api.submit(data)
        until("some results", lambda:
              daemon.api.get(batch_id)["request_counts"]["completed"] > 200)
        daemon.kill9()
        # What was durable is about to be destroyed, so the counts may fall.
        daemon.watch.batches.clear()
        logs = sorted(glob.glob(os.path.join(daemon.data, "spool", batch_id + "*.log")))
        self.assertTrue(logs)
        return sim, daemon, data, batch_id, logs[-1]

    def recovers(self, sim, daemon, data, batch_id):
        daemon.start()
        daemon.api.wait(batch_id, "completed", patient=True)
        # Lines whose results were destroyed are executed again.
        report = self.finished(daemon, batch_id, data, sim, attempts=8)
        self.assertEqual(len(report.output), 3000)

    def test_a_torn_tail_of_the_log_is_done_again(self):
        sim, daemon, data, batch_id, log = self.half_done()
        os.truncate(log, os.path.getsize(log) - 37)
        self.recovers(sim, daemon, data, batch_id)

    def test_a_flipped_bit_in_the_log_is_done_again(self):
        sim, daemon, data, batch_id, log = self.half_done()
        with open(log, "r+b") as f:
            f.seek(os.path.getsize(log) // 2)
            byte = f.read(1)[0]
            f.seek(-1, os.SEEK_CUR)
            f.write(bytes([byte ^ 0x10]))
        self.recovers(sim, daemon, data, batch_id)

    def test_zeroes_at_the_end_of_the_log_are_cut(self):
        sim, daemon, data, batch_id, log = self.half_done()
        with open(log, "ab") as f:
            f.write(b"\0" * 8192)
        self.recovers(sim, daemon, data, batch_id)

    def test_a_lost_index_is_made_again(self):
        sim, daemon, data, batch_id, _ = self.half_done()
        for path in glob.glob(os.path.join(daemon.data, "spool", batch_id + "*.idx")):
            with open(path, "r+b") as f:
                f.seek(os.path.getsize(path) // 2)
                f.write(b"\xff" * 16)
        self.recovers(sim, daemon, data, batch_id)

    def refuses_to_start(self, daemon):
        proc = Proc(daemon.argv(), self.dir, "refused", daemon.env)
        self.procs.append(proc)
        status = proc.wait(20)
        self.assertIn(status, (73, 74), proc.errors())
        self.assertIn("ledger", proc.errors())

    def test_a_ledger_that_is_none_is_refused_and_left_alone(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        daemon.stop()
        kept = daemon.data
        daemon.data = kept + "-broken"
        shutil.copytree(kept, daemon.data)
        path = os.path.join(daemon.data, "ledger.db")
        junk = b"this is not a database at all\n" * 300
        with open(path, "wb") as f:
            f.write(junk)
        self.refuses_to_start(daemon)
        with open(path, "rb") as f:
            self.assertEqual(f.read(), junk)
        daemon.data = kept

    def test_a_ledger_of_a_newer_format_is_refused(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        daemon.stop()
        kept = daemon.data
        daemon.data = kept + "-newer"
        shutil.copytree(kept, daemon.data)
        db = sqlite3.connect(os.path.join(daemon.data, "ledger.db"))
        db.execute("PRAGMA user_version = 999999")
        db.commit()
        db.close()
        self.refuses_to_start(daemon)
        daemon.data = kept

    def test_stray_bytes_are_swept_at_the_start(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        file_id = daemon.api.upload(chat_lines(3))
        daemon.stop()
        with open(os.path.join(daemon.data, "tmp", "half-an-upload"), "wb") as f:
            f.write(b"x" * 1000)
        with open(os.path.join(daemon.data, "spool", "batch_00.000001.log"), "wb") as f:
            f.write(b"x" * 1000)
        daemon.start()
        self.assertTrue(daemon.api.content(file_id))


class Start(E2E):
    """Each way in which a start fails."""

    def fails(self, status, *args, says=(), env=None):
        got, out, err = self.program(*args, env=env, timeout=15)
        self.assertEqual(got, status, f"{args}: {err}")
        sentence = self.one_sentence(err)
        self.assertTrue(sentence.startswith("batchd: "), sentence)
        for word in says:
            self.assertIn(word, sentence)
        self.assertNotIn("listening", out)
        return sentence

    def serve_args(self, *more):
        return ("serve", "--listen", "127.0.0.1:0", "--data-dir", self.path("d"), *more)

    UP = ("--upstream", "http://127.0.0.1:9/v1")

    def test_a_second_server_on_the_same_directory_is_refused(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        self.fails(75, "serve", "--listen", "127.0.0.1:0", "--data-dir", daemon.data, *self.UP,
                   says=[daemon.data])
        self.assertEqual(daemon.api.call("GET", "/healthz").status, 200)

    def test_a_port_in_use_is_refused(self):
        with socket.create_server(("127.0.0.1", 0)) as s:
            where = f"127.0.0.1:{s.getsockname()[1]}"
            self.fails(69, "serve", "--listen", where, "--data-dir", self.path("d"), *self.UP,
                       says=[where])

    def test_a_data_directory_that_cannot_be(self):
        blocked = self.path("a-file", b"x")
        self.fails(73, "serve", "--listen", "127.0.0.1:0", "--data-dir", blocked, *self.UP,
                   says=[blocked])
        self.fails(73, "serve", "--listen", "127.0.0.1:0", "--data-dir", blocked + "/below",
                   *self.UP, says=[blocked])

    def test_a_command_line_that_is_wrong(self):
        self.fails(2, "no-such-command", says=["no-such-command", "--help"])
        self.fails(2, *self.serve_args(*self.UP, "--no-such-flag"), says=["--no-such-flag"])
        self.fails(2, *self.serve_args(*self.UP, "--max-inflight", "lots"),
                   says=["--max-inflight", "lots"])
        self.fails(2, *self.serve_args(*self.UP, "--max-inflight", "0"), says=["1"])
        self.fails(2, *self.serve_args(*self.UP, "--retry-base"), says=["--retry-base"])
        self.fails(2, *self.serve_args(*self.UP, "stray"), says=["stray"])
        self.fails(2, *self.serve_args("--upstream", "not a url"), says=["not a url"])
        self.fails(2, *self.serve_args("--upstream", "ftp://h/v1"), says=["ftp://h/v1"])
        self.fails(2, "serve", "--listen", "nowhere", "--data-dir", self.path("d"), *self.UP,
                   says=["nowhere"])
        self.assertFalse(os.path.exists(self.path("d")), "a wrong flag made the directory")

    def test_a_configuration_that_is_wrong_names_file_and_line(self):
        for text, number, word in (
                (b"[server]\nno_such_key = 1\n", 2, "no_such_key"),
                (b"[dispatch]\n\nmax_inflight = many\n", 3, "many"),
                (b"[nowhere]\n", 1, "nowhere"),
                (b"[upstream a]\nmax_inflight = 3\n", 1, "url"),
                (b"max_inflight = 3\n", 1, "max_inflight"),
                (b"[dispatch]\nmax_inflight = 3\nmax_inflight = 4\n", 3, "max_inflight")):
            conf = self.path("bad.conf", text)
            with self.subTest(text):
                got = self.fails(2, *self.serve_args("--config", conf), says=[conf, word])
                if b"upstream" not in text:
                    self.assertIn(f"{conf}:{number}", got)
        self.fails(2, *self.serve_args("--config", self.path("none.conf")), says=["none.conf"])

    def test_the_environment_is_checked_too(self):
        self.fails(2, *self.serve_args(*self.UP), env={"BATCHD_MAX_INFLIGHT": "x"},
                   says=["BATCHD_MAX_INFLIGHT"])

    def test_without_keys_it_listens_on_loopback_only(self):
        self.fails(2, "serve", "--listen", "0.0.0.0:0", "--data-dir", self.path("d"), *self.UP,
                   says=["0.0.0.0"])

    def test_a_flag_wins_over_the_environment_which_wins_over_the_file(self):
        upstream = Upstream(ok(b'{"object":"x"}'))
        self.addCleanup(upstream.close)
        upstream.gate.clear()
        for flags, env, want in ((["--max-inflight", "3"], {"BATCHD_MAX_INFLIGHT": "5"}, 3),
                                 ([], {"BATCHD_MAX_INFLIGHT": "5"}, 5), ([], {}, 7)):
            upstream.seen.clear()
            upstream.gate.clear()
            daemon = self.serve(upstream.url, flags=flags, env=env,
                                config="[dispatch]\nmax_inflight = 7\n")
            data = chat_lines(20)
            batch_id = daemon.api.submit(data)
            upstream.arrived(want)
            time.sleep(0.2)
            self.assertEqual(len(upstream.seen), want)
            upstream.gate.set()
            self.finished(daemon, batch_id, data)
            daemon.stop()

    def test_a_refused_request_leaves_the_disk_as_it_was(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        file_id = daemon.api.upload(chat_lines(1))
        daemon.stop()
        before = checker.state_of(daemon.data)
        daemon.start()
        api = daemon.api
        for call in (lambda: api.call("POST", "/v1/batches", {"input_file_id": file_id}),
                     lambda: api.call("POST", "/v1/batches", b"nonsense"),
                     lambda: api.upload_raw(b"x", purpose=None),
                     lambda: api.upload_raw(b"x", purpose="nonsense"),
                     lambda: api.call("DELETE", "/v1/files/file-unknown"),
                     lambda: api.call("POST", "/v1/batches/batch_unknown/cancel")):
            self.assertIn(call().status, (400, 404))
        daemon.stop()
        self.assertEqual(checker.state_of(daemon.data), before, "I15")

    def test_the_program_under_test_is_the_one_named(self):
        self.assertEqual(self.program("--version")[0], 0, BATCHD)

# SPDX-License-Identifier: Apache-2.0
"""OpenAI's own Python SDK, unchanged, against batchd: everything it offers for batches."""

import asyncio
import importlib
import hashlib
import io
import json
import os
import pathlib
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

import openai  # noqa: E402  (after the path)
import receiver  # noqa: E402
from harness import CHAT, E2E, chat_lines, until  # noqa: E402


class Sdk(E2E):
    cost = 2

    def client(self, *sim_flags, **more):
        sim = self.sim(*sim_flags)
        self.daemon = self.serve(sim.url, **more)
        client = openai.OpenAI(base_url=self.daemon.api.base + "/v1", api_key="unused",
                               max_retries=0)
        self.addCleanup(client.close)
        return client

    def input_file(self, client, data, **more):
        return client.files.create(file=("in.jsonl", io.BytesIO(data)), purpose="batch", **more)

    def done(self, client, batch_id):
        def look():
            batch = client.batches.retrieve(batch_id)
            ended = ("completed", "failed", "expired", "cancelled")
            return batch if batch.status in ended else None
        return until("the batch to end", look)

    def test_keys_projects_and_their_limits_are_the_errors_that_the_sdk_knows(self):
        unused = self.client(flags=["--project-batches", "1", "--max-inflight", "1"])
        keys = [self.program("key", "add", name, "--project", name, "--data-dir",
                             self.daemon.data)[1].strip() for name in ("a", "b")]
        with self.assertRaises(openai.AuthenticationError) as wrong:
            unused.files.list()
        self.assertEqual(wrong.exception.code, "invalid_api_key")
        a, b = (unused.with_options(api_key=k, max_retries=2) for k in keys)
        file = self.input_file(a, chat_lines(2000))
        batch = a.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
        for call in (lambda: b.files.retrieve(file.id), lambda: b.batches.retrieve(batch.id),
                     lambda: b.batches.cancel(batch.id), lambda: b.files.delete(file.id)):
            self.assertRaises(openai.NotFoundError, call)
        self.assertEqual([list(b.files.list()), list(b.batches.list())], [[], []])
        with self.assertRaises(openai.RateLimitError) as full:
            a.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
        self.assertEqual(full.exception.code, "batch_limit_exceeded")
        metrics = self.daemon.api.call("GET", "/metrics").body.decode()
        # Told once: the SDK did not insist, though it may try twice more.
        self.assertIn('{method="POST",route="/v1/batches",code="429"} 1\n', metrics)
        a.batches.cancel(batch.id)

    def test_a_whole_round(self):
        client = self.client()
        data = chat_lines(25)
        file = self.input_file(client, data)
        self.assertEqual((file.object, file.purpose, file.bytes, file.filename, file.status),
                         ("file", "batch", len(data), "in.jsonl", "processed"))
        batch = client.batches.create(input_file_id=file.id, endpoint=CHAT,
                                      completion_window="24h", metadata={"job": "nightly"})
        self.assertEqual((batch.object, batch.status, batch.metadata),
                         ("batch", "validating", {"job": "nightly"}))
        self.assertEqual(batch.expires_at - batch.created_at, 86400)
        batch = self.done(client, batch.id)
        self.assertEqual(batch.status, "completed")
        counts = batch.request_counts
        self.assertEqual((counts.total, counts.completed, counts.failed), (25, 25, 0))
        self.assertIsNone(batch.error_file_id)
        self.assertEqual(getattr(batch, "model", "sim-model"), "sim-model")
        content = client.files.content(batch.output_file_id)
        lines = [json.loads(x) for x in content.text.splitlines()]
        self.assertEqual([x["custom_id"] for x in lines], [f"c-{i}" for i in range(25)])
        for line in lines:
            answer = openai.types.chat.ChatCompletion.model_validate(line["response"]["body"])
            self.assertTrue(answer.choices[0].message.content)
        output = client.files.retrieve(batch.output_file_id)
        self.assertEqual((output.purpose, output.bytes), ("batch_output", len(content.content)))

    def test_a_path_and_an_expiry_as_the_sdk_sends_them(self):
        client = self.client()
        with open(self.path("päth.jsonl", chat_lines(2)), "rb") as f:
            file = client.files.create(file=f, purpose="batch", extra_body={
                "expires_after": {"anchor": "created_at", "seconds": 7200}})
        self.assertEqual(file.expires_at - file.created_at, 7200)
        self.assertEqual(client.files.retrieve(file.id).filename, "päth.jsonl")
        self.assertEqual(client.files.content(file.id).read(), chat_lines(2))

    def test_lists_page_on_their_own(self):
        client = self.client()
        files = [self.input_file(client, chat_lines(1)).id for _ in range(5)]
        batches = [client.batches.create(input_file_id=files[0], endpoint=CHAT,
                                         completion_window="24h").id for _ in range(5)]
        self.assertEqual([x.id for x in client.batches.list(limit=2)], batches[::-1])
        got = [x.id for x in client.files.list(purpose="batch", limit=2, order="asc")]
        self.assertEqual(got, files)
        page = client.batches.list(limit=3)
        self.assertTrue(page.has_more)
        self.assertEqual(len(page.data), 3)
        for batch_id in batches:
            self.done(client, batch_id)

    def test_cancel(self):
        client = self.client("--latency", "400ms", flags=["--max-inflight", "2"])
        file = self.input_file(client, chat_lines(50))
        batch = client.batches.create(input_file_id=file.id, endpoint=CHAT,
                                      completion_window="24h")
        batch = client.batches.cancel(batch.id)
        self.assertIn(batch.status, ("cancelling", "cancelled"))
        batch = self.done(client, batch.id)
        self.assertEqual(batch.status, "cancelled")
        self.assertEqual(client.batches.cancel(batch.id).status, "cancelled")

    def test_a_failed_batch_tells_its_lines(self):
        client = self.client()
        file = self.input_file(client, chat_lines(1) + b"{nope\n")
        batch = client.batches.create(input_file_id=file.id, endpoint=CHAT,
                                      completion_window="24h")
        batch = self.done(client, batch.id)
        self.assertEqual(batch.status, "failed")
        error = batch.errors.data[0]
        self.assertEqual((error.code, error.line, error.param), ("invalid_json_line", 2, None))

    def test_failed_lines_are_in_the_error_file(self):
        client = self.client("--fault", "400=1")
        file = self.input_file(client, chat_lines(3))
        batch = self.done(client, client.batches.create(
            input_file_id=file.id, endpoint=CHAT, completion_window="24h").id)
        self.assertEqual((batch.status, batch.output_file_id), ("completed", None))
        for line in client.files.content(batch.error_file_id).iter_lines():
            self.assertEqual(json.loads(line)["response"]["status_code"], 400)

    def test_errors_become_the_sdks_exceptions(self):
        client = self.client()
        with self.assertRaises(openai.NotFoundError) as got:
            client.batches.retrieve("batch_none")
        self.assertIn("batch_none", got.exception.message)
        self.assertTrue(got.exception.request_id)
        with self.assertRaises(openai.NotFoundError):
            client.files.retrieve("file-none")
        with self.assertRaises(openai.NotFoundError):
            client.files.content("file-none")
        with self.assertRaises(openai.BadRequestError) as got:
            client.batches.create(input_file_id="file-x", endpoint="/v1/nothing",
                                  completion_window="24h")
        self.assertEqual(got.exception.type, "invalid_request_error")
        with self.assertRaises(openai.BadRequestError):
            client.batches.create(input_file_id="file-x", endpoint=CHAT, completion_window="x")
        file = self.input_file(client, chat_lines(1))
        batch = client.batches.create(input_file_id=file.id, endpoint=CHAT,
                                      completion_window="24h")
        self.done(client, batch.id)
        patient = client.with_options(max_retries=2)
        with self.assertRaises(openai.ConflictError):  # at once: it is told not to retry
            patient.batches.cancel(batch.id)

    def test_members_that_the_sdk_does_not_know(self):
        client = self.client()
        requests = [{"custom_id": f"r-{i}", "body": {"model": "sim-model", "messages": [
            {"role": "user", "content": "hello"}]}} for i in range(3)]
        batch = client.batches.create(
            input_file_id=None, endpoint=CHAT, completion_window="24h",
            extra_body={"requests": requests, "priority": 5, "paused": False, "sample": None})
        first = self.done(client, batch.id)
        self.assertEqual((first.status, first.request_counts.completed), ("completed", 3))
        self.assertEqual(client.files.retrieve(first.input_file_id).filename, "inline.jsonl")
        # The old SDK knows neither model nor usage; beyond these there is nothing to know.
        self.assertLessEqual(set(first.model_extra or {}), {"model", "usage"})
        # As compact as the SDK sends it: a body is the same when its bytes are.
        more = "".join(json.dumps({**x, "method": "POST", "url": CHAT},
                                  separators=(",", ":")) + "\n"
                       for x in requests + [{**requests[0], "custom_id": "r-9"}])
        batch = client.batches.create(
            input_file_id=self.input_file(client, more.encode()).id, endpoint=CHAT,
            completion_window="24h", extra_body={"continue_from": first.id})
        second = self.done(client, batch.id)
        self.assertEqual(second.request_counts.completed, 4)
        before = client.files.content(first.output_file_id).text
        after = client.files.content(second.output_file_id).text
        self.assertTrue(after.startswith(before))
        with self.assertRaises(openai.BadRequestError) as caught:
            client.batches.create(input_file_id="file-x", endpoint=CHAT, completion_window="24h",
                                  extra_body={"priority": "high"})
        self.assertEqual((caught.exception.code, caught.exception.param),
                         ("invalid_type", "priority"))
        with self.assertRaises(openai.ConflictError):
            client.post(f"/batches/{second.id}/retry", cast_to=openai.types.Batch)

    def test_an_idempotency_key_of_the_caller(self):
        client = self.client()
        file = self.input_file(client, chat_lines(2))

        def create(key, **more):
            return client.batches.create(input_file_id=file.id, endpoint=CHAT,
                                         completion_window="24h",
                                         extra_headers={"Idempotency-Key": key}, **more)
        first = create("mine-1")
        self.done(client, first.id)
        again = create("mine-1")
        self.assertEqual((again.id, again.status), (first.id, "completed"))
        with self.assertRaises(openai.UnprocessableEntityError) as caught:
            create("mine-1", metadata={"other": "request"})
        self.assertEqual(caught.exception.code, "idempotency_key_reused")
        self.assertNotEqual(create("mine-2").id, first.id)

    def test_delete(self):
        client = self.client()
        file = self.input_file(client, chat_lines(1))
        gone = client.files.delete(file.id)
        self.assertEqual((gone.id, gone.deleted, gone.object), (file.id, True, "file"))
        with self.assertRaises(openai.NotFoundError):
            client.files.retrieve(file.id)

    def test_uploads_in_chunks(self):
        client = self.client()
        data = chat_lines(2000)
        done = client.uploads.upload_file_chunked(
            file=data, filename="in.jsonl", bytes=len(data), purpose="batch",
            mime_type="application/jsonl", part_size=100_000,
            md5=hashlib.md5(data).hexdigest())
        self.assertEqual((done.object, done.status, done.bytes, done.filename, done.purpose),
                         ("upload", "completed", len(data), "in.jsonl", "batch"))
        self.assertEqual(done.expires_at - done.created_at, 3600)
        self.assertEqual((done.file.object, done.file.bytes, done.file.purpose),
                         ("file", len(data), "batch"))
        self.assertEqual(client.files.content(done.file.id).read(), data)
        batch = self.done(client, client.batches.create(
            input_file_id=done.file.id, endpoint=CHAT, completion_window="24h").id)
        self.assertEqual((batch.status, batch.request_counts.completed), ("completed", 2000))

    def test_uploads_a_path_in_chunks(self):
        client = self.client()
        data = os.urandom(700_001)
        path = pathlib.Path(self.path("größe.bin", data))
        done = client.uploads.upload_file_chunked(
            file=path, purpose="user_data", mime_type="application/octet-stream",
            part_size=65536)
        self.assertEqual((done.file.filename, done.file.purpose), ("größe.bin", "user_data"))
        self.assertEqual(client.files.content(done.file.id).read(), data)

    def test_uploads_step_by_step(self):
        client = self.client()
        upload = client.uploads.create(filename="a.txt", purpose="evals", bytes=6,
                                       mime_type="text/plain")
        self.assertEqual((upload.status, upload.file), ("pending", None))
        parts = [client.uploads.parts.create(upload.id, data=x) for x in (b"def", b"abc")]
        for part in parts:
            self.assertEqual((part.object, part.upload_id), ("upload.part", upload.id))
            self.assertTrue(part.id.startswith("part_") and part.created_at)
        with self.assertRaises(openai.BadRequestError) as got:
            client.uploads.complete(upload.id, part_ids=[parts[0].id])
        self.assertEqual(got.exception.param, "part_ids")
        done = client.uploads.complete(upload.id, part_ids=[parts[1].id, parts[0].id])
        self.assertEqual(client.files.content(done.file.id).read(), b"abcdef")
        patient = client.with_options(max_retries=2)
        with self.assertRaises(openai.BadRequestError):  # at once: a 400 is not retried
            patient.uploads.cancel(upload.id)
        upload = client.uploads.create(filename="a.txt", purpose="evals", bytes=6,
                                       mime_type="text/plain")
        self.assertEqual(client.uploads.cancel(upload.id).status, "cancelled")
        with self.assertRaises(openai.NotFoundError):
            client.uploads.cancel("upload_none")

    def test_models(self):
        client = self.client()
        self.assertEqual(client.models.list().object, "list")

    def test_embeddings(self):
        client = self.client()
        data = b"".join(json.dumps({
            "custom_id": str(i), "method": "POST", "url": "/v1/embeddings",
            "body": {"model": "sim-model", "input": ["a", "b"]}}).encode() + b"\n"
            for i in range(4))
        file = self.input_file(client, data)
        batch = self.done(client, client.batches.create(
            input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h").id)
        text = client.files.content(batch.output_file_id).text
        for line in text.splitlines():
            body = json.loads(line)["response"]["body"]
            answer = openai.types.CreateEmbeddingResponse.model_validate(body)
            self.assertEqual(len(answer.data), 2)

    def test_webhooks_of_all_four_kinds_are_unwrapped(self):
        told = receiver.Receiver()
        self.addCleanup(told.close)
        new, old = receiver.secret(2), receiver.secret(1)
        file = self.path("secrets", f"{new}\n{old}\n".encode())
        client = self.client("--latency", "300ms", flags=["--max-inflight", "2"], config=(
            f"[webhook app]\nurl = {told.url}\nsecret_file = {file}\n"))

        def start(data, window="24h"):
            return client.batches.create(input_file_id=self.input_file(client, data).id,
                                         endpoint=CHAT, completion_window=window).id
        ends = {"batch.completed": start(chat_lines(2)), "batch.failed": start(b"{nope\n"),
                "batch.expired": start(chat_lines(50), "1s"),
                "batch.cancelled": start(chat_lines(50))}
        client.batches.cancel(ends["batch.cancelled"])
        types = importlib.import_module("openai.types.webhooks")
        kinds = {"batch.completed": types.BatchCompletedWebhookEvent,
                 "batch.failed": types.BatchFailedWebhookEvent,
                 "batch.expired": types.BatchExpiredWebhookEvent,
                 "batch.cancelled": types.BatchCancelledWebhookEvent}
        got = {}
        for _, headers, body in told.arrived(4):
            event = client.webhooks.unwrap(body, headers, secret=new)
            self.assertEqual(client.webhooks.unwrap(body, headers, secret=old), event)
            self.assertIsInstance(event, kinds[event.type])
            self.assertEqual((event.object, event.id), ("event", headers["webhook-id"]))
            kinds[event.type].model_validate_json(body, strict=True)
            got[event.type] = event.data.id
            with self.assertRaises(openai.InvalidWebhookSignatureError):
                client.webhooks.unwrap(body + b" ", headers, secret=new)
            with self.assertRaises(openai.InvalidWebhookSignatureError):
                client.webhooks.unwrap(body, headers, secret=receiver.secret(3))
        self.assertEqual(got, ends)

    def test_the_asynchronous_client(self):
        self.client().close()

        async def work():
            async with openai.AsyncOpenAI(base_url=self.daemon.api.base + "/v1", api_key="x",
                                          max_retries=0) as client:
                files = await asyncio.gather(*[
                    client.files.create(file=("a.jsonl", chat_lines(3)), purpose="batch")
                    for _ in range(8)])
                batches = await asyncio.gather(*[
                    client.batches.create(input_file_id=f.id, endpoint=CHAT,
                                          completion_window="24h") for f in files])
                for batch in batches:
                    while (await client.batches.retrieve(batch.id)).status != "completed":
                        await asyncio.sleep(0.02)
                return [x.id async for x in client.batches.list(limit=3)]
        self.assertEqual(len(asyncio.run(work())), 8)

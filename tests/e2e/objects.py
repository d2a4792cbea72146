# SPDX-License-Identifier: Apache-2.0
"""objects: one of every object that the API shows, in every state it can be in, for whoever checks
their form."""

import time

import http_forms
from harness import TERMINAL, chat_line, chat_lines
from upstream import Upstream


def _answer(_path, body):
    if b"refuse" in body:
        return 400, {"Content-Type": "application/json"}, b'{"error":{"message":"no"}}'
    return 200, {"Content-Type": "application/json"}, \
        b'{"object":"x","usage":{"prompt_tokens":7,"completion_tokens":5,"total_tokens":12}}'


def _batches(api, upstream):
    mixed = chat_line(0) + b"\n" + chat_line(1, "refuse") + b"\n"
    made = [api.create(api.upload(mixed), metadata={"a": "b"}),
            api.create(api.upload(b"{nope\n[1]\n")),
            api.create(api.upload(chat_lines(6)), window="2s"),
            api.create(api.upload(chat_lines(6)))]
    seen = list(made)
    ids = [b["id"] for b in made]
    for batch_id in (ids[0], ids[2], ids[3]):
        seen.append(api.wait(batch_id, "in_progress"))
    seen.append(api.cancel(ids[3]))
    time.sleep(2)  # the window of the third
    upstream.gate.set()
    seen += [api.wait(batch_id, TERMINAL) for batch_id in ids]
    return seen, api.want(200, "GET", "/v1/batches")["data"]


def _uploads(api):
    data = chat_lines(4)
    ask = {"filename": "u.jsonl", "purpose": "batch", "bytes": len(data),
           "mime_type": "application/jsonl"}
    pending = api.want(200, "POST", "/v1/uploads", ask)
    body, head = http_forms.part(data)
    part = api.want(200, "POST", f"/v1/uploads/{pending['id']}/parts", body, head)
    completed = api.want(200, "POST", f"/v1/uploads/{pending['id']}/complete",
                         {"part_ids": [part["id"]]})
    other = api.want(200, "POST", "/v1/uploads", ask)
    cancelled = api.want(200, "POST", f"/v1/uploads/{other['id']}/cancel")
    return [pending, completed, cancelled], [part]


def collect(test):
    """{"batch": [...], "file": [...], "upload": [...], "upload.part": [...], "model": [...],
    "deleted": [...], "list": [...]} as a server of the test's own shows them."""
    upstream = Upstream(_answer, models=["sim-model"])
    test.addCleanup(upstream.close)
    upstream.gate.clear()
    api = test.serve(upstream.url, flags=["--max-inflight", "2"]).api
    batches, listed = _batches(api, upstream)
    uploads, parts = _uploads(api)
    user_data = api.upload(b"x", "a.txt", "user_data")
    files = api.want(200, "GET", "/v1/files")
    models = api.want(200, "GET", "/v1/models")
    return {"batch": batches + listed, "file": files["data"], "upload": uploads,
            "upload.part": parts, "model": models["data"], "deleted": [api.delete(user_data)],
            "list": [files, models]}

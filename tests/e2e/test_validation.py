# SPDX-License-Identifier: Apache-2.0
"""Bad input: every bad line is told, and nothing of the file is executed."""

import json

from harness import CHAT, E2E, chat_line, chat_lines


def line(**over):
    whole = {"custom_id": "a", "method": "POST", "url": CHAT,
             "body": {"model": "sim-model", "messages": [{"role": "user", "content": "q"}],
                      "stop": []}}
    whole.update(over)
    return json.dumps({k: v for k, v in whole.items() if v is not None}).encode()


# What is wrong, the line, code and param as the real API says them.
BAD = [
    ("not JSON", b"{nope", "invalid_json_line", None),
    ("not an object", b"[1]", "invalid_json_line", None),
    ("a bare string", b'"x"', "invalid_json_line", None),
    ("text after the object", line(custom_id="b3") + b" x", "invalid_json_line", None),
    ("invalid UTF-8", line(custom_id="b4").replace(b"sim-model", b"\xff\xfe"),
     "invalid_json_line", None),
    ("a NUL", line(custom_id="b5").replace(b"sim-model", b"\0"), "invalid_json_line", None),
    ("no custom_id", line(custom_id=None), "missing_required_parameter", "custom_id"),
    ("no method", line(custom_id="b8", method=None), "missing_required_parameter", "method"),
    ("no url", line(custom_id="b9", url=None), "missing_required_parameter", "url"),
    ("no body", line(custom_id="b10", body=None), "missing_required_parameter", "body"),
    ("custom_id a number", line(custom_id=7), "invalid_type", "custom_id"),
    ("method a number", line(custom_id="b12", method=7), "invalid_type", "method"),
    ("body a string", line(custom_id="b13", body="x"), "invalid_type", "body"),
    ("method GET", line(custom_id="b14", method="GET"), "invalid_method", "method"),
    ("another url", line(custom_id="b15", url="/v1/embeddings"), "invalid_url", "url"),
    ("stream", line(custom_id="b16", body={"model": "sim-model", "messages": [], "stream": True}),
     "streaming_unsupported", "body.stream"),
    ("a second model", line(custom_id="b17", body={"model": "other", "messages": []}),
     "mismatched_model", "body.model"),
    ("a model that no upstream serves",
     line(custom_id="b18", body={"model": "nobody-has-it", "messages": []}),
     "model_not_found", "body.model"),
    ("custom_id seen before", chat_line(0), "duplicate_custom_id", "custom_id"),
]


class Validation(E2E):
    cost = 2

    def failed(self, daemon, data, **more):
        batch = daemon.api.wait(daemon.api.submit(data, **more), "failed")
        self.assertEqual(batch["request_counts"], {"total": 0, "completed": 0, "failed": 0})
        self.assertIsNone(batch["output_file_id"])
        self.assertIsNone(batch["error_file_id"])
        return batch["errors"]["data"]

    def test_every_kind_of_bad_line_is_told_with_its_line_code_and_param(self):
        sim = self.sim("--model", "sim-model", "--model", "other")
        daemon = self.serve(sim.url)
        # Good lines, a blank one and CRLF between them: line numbers count physical lines.
        data, want, number = chat_line(0) + b"\r\n\n", [], 3
        for i, (_, text, code, param) in enumerate(BAD):
            data += text + b"\n" + chat_line(1000 + i) + b"\n"
            want.append((number, code, param))
            number += 2
        errors = self.failed(daemon, data)
        got = [(e["line"], e["code"], e["param"]) for e in errors]
        for (what, _, _, _), w in zip(BAD, want):
            with self.subTest(what):
                self.assertIn(w, got)
        self.assertEqual(len(got), len(want), got)
        self.assertEqual(got, sorted(got, key=lambda x: x[0]), "errors are in line order")
        for e in errors:
            self.assertEqual(set(e), {"code", "message", "param", "line"})
            self.assertTrue(e["message"].endswith("."), e)
        self.assertEqual(sim.oracle().rows, [], "nothing may be executed")

    def test_the_words_are_those_of_the_real_api(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        errors = self.failed(daemon, b"{nope\n" + line(custom_id=None) + b"\n")
        self.assertEqual([e["message"] for e in errors],
                         ["This line is not parseable as valid JSON.",
                          "Missing required parameter: 'custom_id'."])

    def test_more_than_a_thousand_bad_lines_end_with_their_total(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        errors = self.failed(daemon, b"{nope\n" * 2500)
        self.assertEqual([e["line"] for e in errors[:1000]], list(range(1, 1001)))
        self.assertEqual(len(errors), 1001)
        self.assertRegex(errors[-1]["message"].replace(",", ""), r"\b(2500|1500)\b")

    def test_files_that_are_bad_as_a_whole(self):
        sim = self.sim()
        daemon = self.serve(sim.url, flags=["--max-lines", "100", "--max-inputs", "50"])
        cases = [
            ("only blank lines", b"\n\r\n \n", CHAT, "empty_file"),
            ("too many lines", chat_lines(101), CHAT, "too_many_tasks"),
            ("too many embedding inputs",
             json.dumps({"custom_id": "e", "method": "POST", "url": "/v1/embeddings",
                         "body": {"model": "sim-model", "input": ["x"] * 51}}).encode() + b"\n",
             "/v1/embeddings", "too_many_embedding_inputs"),
        ]
        for what, data, endpoint, code in cases:
            with self.subTest(what):
                errors = self.failed(daemon, data, endpoint=endpoint)
                self.assertEqual([e["code"] for e in errors], [code])
                self.assertIsNone(errors[0]["line"])
        self.assertEqual(sim.oracle().rows, [])

    def test_exactly_as_many_lines_as_allowed_are_taken(self):
        sim = self.sim()
        daemon = self.serve(sim.url, flags=["--max-lines", "100"])
        data = chat_lines(100)
        self.finished(daemon, daemon.api.submit(data), data, sim)

    def test_a_line_over_the_limit_is_told_and_the_rest_is_still_read(self):
        sim = self.sim()
        daemon = self.serve(sim.url, flags=["--max-line-size", "64K"])
        data = chat_line(0) + b"\n" + chat_line(1, "x" * 70000) + b"\n{nope\n"
        errors = self.failed(daemon, data)
        self.assertEqual([(e["line"], e["code"]) for e in errors],
                         [(2, "line_too_long"), (3, "invalid_json_line")])

    def test_two_models_are_taken_when_the_operator_allows_it(self):
        sim = self.sim("--model", "sim-model", "--model", "other")
        daemon = self.serve(sim.url, flags=["--many-models"])
        data = chat_line(0) + b"\n" + chat_line(1).replace(b'"sim-model"', b'"other"') + b"\n"
        batch_id = daemon.api.submit(data)
        daemon.api.wait(batch_id, "completed")

    def test_nesting_deeper_than_any_real_request_is_told_not_crashed_on(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        deep = b"[" * 100000 + b"]" * 100000
        bad = line(custom_id="deep").replace(b"[]", deep)
        errors = self.failed(daemon, bad + b"\n")
        self.assertEqual(errors[0]["line"], 1)

    def test_a_failed_batch_can_be_corrected_and_sent_again_under_the_same_name(self):
        sim = self.sim()
        daemon = self.serve(sim.url)
        self.failed(daemon, chat_lines(3) + b"{nope\n")
        data = chat_lines(4)
        self.finished(daemon, daemon.api.submit(data), data, sim)

# SPDX-License-Identifier: Apache-2.0
"""Bytes: request bodies reach the upstream, and answers the output file, as they were."""

import json
import re

import checker
from harness import CHAT, E2E, chat_lines
from upstream import Upstream, ok

# Bodies that re-encoding would change; all of them valid requests.
ODD = {
    "numbers beyond 2^53": '{"model":"m","seed":1152921504606846977,"n":9007199254740993}',
    "numbers of 400 digits": '{"model":"m","n":' + "7" * 400 + "}",
    "1.10 stays 1.10": '{"model":"m","temperature":1.10,"top_p":1e0,"x":-0.0,"y":1E+2}',
    "order of keys": '{"z":1,"model":"m","a":{"z":1,"a":2}}',
    "spaces": '{ "model" :\t"m" ,  "messages" : [ ] }',
    "escapes": r'{"model":"m","s":"\u0041\u00e9\ud83d\ude00\/\b\f\n\r\t\"\\"}',
    "emoji and scripts": '{"model":"m","s":"😀👩‍👩‍👧 żółć 漢字 العربية \u2028\u2029"}',
    "empty things": '{"model":"m","a":{},"b":[],"c":"","d":null,"e":false}',
    "a key that is empty": '{"model":"m","":1}',
    "escaped key names": r'{"mod\u0065l":"m","messages":[]}',
    "DEL and C1": '{"model":"m","s":"\u007f\u0085"}',
    "noncharacters": '{"model":"m","s":"\uffff\U0010ffff"}',
    "nesting": '{"model":"m","s":' + "[" * 100 + "]" * 100 + "}",
    "a body that looks like a line": '{"model":"m","custom_id":"x","body":{"a":1},"url":"u"}',
    "half a surrogate pair": r'{"model":"m","s":"\ud800"}',
    "stream false": '{"model":"m","stream":false}',
    "stream null": '{"model":"m","stream":null}',
}


def wrap(custom_id, body, before="", after=""):
    """A line by hand: json.dumps would already have changed the body."""
    return (f'{{{before}"custom_id":{json.dumps(custom_id)},"method":"POST","url":"{CHAT}",'
            f'"body":{body}{after}}}').encode()


class Bytes(E2E):
    cost = 3

    def through(self, data, answer=ok(b'{"object":"x"}'), **more):
        """Runs the file; (the bodies that arrived, the report)."""
        upstream = Upstream(answer)
        self.addCleanup(upstream.close)
        daemon = self.serve(upstream.url, **more)
        report = self.finished(daemon, daemon.api.submit(data), data)
        return upstream.bodies(), report

    def test_odd_bodies_arrive_byte_for_byte(self):
        data = b"".join(wrap(name, body) + b"\n" for name, body in ODD.items())
        bodies, report = self.through(data, flags=["--many-models"])
        self.assertEqual(sorted(bodies), sorted(b.encode() for b in ODD.values()))
        self.assertEqual(set(report.output), set(ODD))

    def test_the_members_of_a_line_may_come_in_any_order_and_with_others(self):
        body = ODD["numbers beyond 2^53"]
        lines = [
            wrap("plain", body),
            f'{{"body":{body},"url":"{CHAT}","method":"POST","custom_id":"reversed"}}'.encode(),
            wrap("more", body, before='"extra":{"body":[1,2]},', after=',"priority":1'),
            f' {{ "custom_id" : "spaces" , "method":"POST","url":"{CHAT}" , "body" : {body} }} \t'
            .encode(),
        ]
        bodies, report = self.through(b"\n".join(lines) + b"\n")
        self.assertEqual(bodies, [body.encode()] * 4)
        self.assertEqual(set(report.output), {"plain", "reversed", "more", "spaces"})

    def test_a_megabyte_in_a_line_and_in_an_answer(self):
        body = json.dumps({"model": "m", "s": "é😀x" * 150000}, ensure_ascii=False)
        answer = json.dumps({"object": "x", "s": "ö" * 600000}, ensure_ascii=False).encode()
        data = b"".join(wrap(str(i), body) + b"\n" for i in range(8))
        bodies, report = self.through(data, ok(answer))
        self.assertTrue(all(b == body.encode() for b in bodies))
        self.assertTrue(all(x.body == answer for x in report.output.values()))

    def test_a_model_name_with_half_a_surrogate_pair_is_refused(self):
        upstream = Upstream(ok(b"{}"))
        self.addCleanup(upstream.close)
        daemon = self.serve(upstream.url)
        batch_id = daemon.api.submit([wrap("x", r'{"model":"\ud800"}')])
        errors = daemon.api.wait(batch_id, "failed")["errors"]["data"]
        self.assertEqual([(e["line"], e["param"]) for e in errors], [(1, "body.model")])

    def test_line_ends_a_mark_blank_lines_and_a_missing_last_feed(self):
        one, two, three = (wrap(f"c{i}", '{"model":"m"}') for i in range(3))
        for what, data in (
                ("CRLF", one + b"\r\n" + two + b"\r\n"),
                ("byte order mark", b"\xef\xbb\xbf" + one + b"\n"),
                ("blank lines", b"\n\n" + one + b"\n   \n\t\r\n" + two + b"\n\n"),
                ("no last line feed", one + b"\n" + two),
                ("no last line feed after CRLF", one + b"\r\n" + two + b"\r\n" + three),
                ("one line alone", one)):
            with self.subTest(what):
                bodies, _ = self.through(data)
                self.assertEqual(set(bodies), {b'{"model":"m"}'})

    def test_custom_ids_come_back_as_they_were_written(self):
        written = ['"plain"', r'"a\u0062c"', '"\\"\\\\"', '"漢字 😀"', '"' + "x" * 500 + '"', '""',
                   '" "', r'"tab\there"', '"a/b?c=d&e"', r'"\ud83d\ude00"', '"null"', '"0"']
        data = b"".join(
            f'{{"custom_id":{c},"method":"POST","url":"{CHAT}","body":{{"model":"m"}}}}\n'.encode()
            for c in written)
        upstream = Upstream(ok(b'{"object":"x"}'))
        self.addCleanup(upstream.close)
        daemon = self.serve(upstream.url)
        batch = daemon.api.wait(daemon.api.submit(data))
        if batch["status"] == "failed":  # an empty custom_id may be refused, nothing else
            self.assertEqual([e["line"] for e in batch["errors"]["data"]], [6], batch["errors"])
            data = b"".join(x + b"\n" for i, x in enumerate(data.splitlines()) if i != 5)
            written.remove('""')
            batch = daemon.api.wait(daemon.api.submit(data))
        raw = [checker.members(x.decode())["custom_id"]
               for x in daemon.api.output(batch).splitlines()]
        self.assertEqual(raw, written)

    def test_answers_reach_the_output_file_byte_for_byte(self):
        answers = [body.encode() for body in ODD.values()]

        def answer(_path, body):
            number = int(re.search(rb"line (\d+)", body).group(1))
            return 200, {"Content-Type": "application/json"}, answers[number]
        _, report = self.through(chat_lines(len(answers)), answer)
        for i, want in enumerate(answers):
            self.assertEqual(report.output[f"c-{i}"].body, want)

    def test_an_answer_over_many_lines_is_put_on_one_and_keeps_its_values(self):
        pretty = b'{\n  "object": "x",\r\n\t"s": "a\\nb  c",\n  "n": 1.10\n}\n'
        _, report = self.through(chat_lines(1), ok(pretty))
        body = report.output["c-0"].body
        self.assertNotIn(b"\n", body)
        self.assertNotIn(b"\r", body)
        self.assertIn(rb'"a\nb  c"', body)
        self.assertIn(b"1.10", body)
        self.assertEqual(json.loads(body), json.loads(pretty))

    def test_an_error_answer_that_is_no_json_is_kept_as_a_string(self):
        page = b"<html>\n\"quotes\" \\ \xff and no UTF-8</html>"
        _, report = self.through(chat_lines(1), lambda *_: (403, {}, page))
        kept = report.errors["c-0"]
        self.assertEqual(kept.status, 403)
        self.assertIn("quotes", kept.json)
        self.assertIsInstance(kept.json, str)

    def test_the_file_comes_back_as_it_was_sent_whatever_is_in_it(self):
        upstream = Upstream(ok(b"{}"))
        self.addCleanup(upstream.close)
        daemon = self.serve(upstream.url)
        mark = b"\r\n------batchd-e2e-"
        for data in (b"\0" * 1000, bytes(range(256)) * 500, mark + b"\r\n" + mark + b"--\r\n",
                     b"-" * 70000, b"\r\n" * 40000, b"\r\n--" * 20000, b"x"):
            file_id = daemon.api.upload(data, purpose="user_data")
            self.assertEqual(daemon.api.content(file_id), data)

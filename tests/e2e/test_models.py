# SPDX-License-Identifier: Apache-2.0
"""Which models there are, where their lines go, and the names that stand for others."""

import json
import time
import urllib.request

from harness import CHAT, E2E, chat_line, free_port, until
from upstream import Upstream, ok

ANSWER = b'{"object":"chat.completion","choices":[],"usage":{"prompt_tokens":3,' \
         b'"completion_tokens":2,"total_tokens":5}}'


def lines_of(model, n, first=0):
    return b"".join(chat_line(i, model=model) + b"\n" for i in range(first, first + n))


class Models(E2E):
    cost = 3
    refresh = {"BATCHD_MODELS_REFRESH": "50ms"}

    def upstream(self, *models):
        up = Upstream(ok(ANSWER), models=list(models) if models else None)
        self.addCleanup(up.close)
        return up

    def strict(self, *models, port=0):
        flags = [f for m in models for f in ("--model", m)]
        return self.sim("--strict-models", "--latency", "2ms", *flags, port=port)

    def ids(self, daemon):
        listed = daemon.api.want(200, "GET", "/v1/models")
        self.assertEqual(listed["object"], "list")
        for model in listed["data"]:
            self.assertEqual(set(model), {"id", "object", "created", "owned_by"})
            self.assertEqual(model["object"], "model")
        return [model["id"] for model in listed["data"]]

    def models_of(self, upstream):
        return {json.loads(body)["model"] for body in upstream.bodies()}

    def set_models(self, sim, names):
        urllib.request.urlopen(urllib.request.Request(
            f"http://127.0.0.1:{sim.port}/sim/models", json.dumps(names).encode(),
            method="PUT")).close()


class Listed(Models):
    def test_the_list_is_the_union_of_the_upstreams_and_the_aliases(self):
        a, b = self.strict("m-2", "m-1"), self.strict("m-3", "m-1")
        daemon = self.serve([a.url, b.url], config="[aliases]\ngpt-4o-mini = m-1\n")
        until("both lists", lambda: len(self.ids(daemon)) == 4)
        self.assertEqual(self.ids(daemon), ["gpt-4o-mini", "m-1", "m-2", "m-3"])
        one = daemon.api.want(200, "GET", "/v1/models/m-3")
        self.assertEqual((one["owned_by"], one["created"]), ("batchd-sim", 1700000000))
        alias = daemon.api.want(200, "GET", "/v1/models/gpt-4o-mini")
        self.assertEqual(alias["owned_by"], "batchd")
        got = daemon.api.call("GET", "/v1/models/m-4")
        self.assertEqual((got.status, got.error["code"]), (404, "model_not_found"))

    def test_models_of_the_configuration_are_listed_and_not_asked_for(self):
        daemon = self.serve([], config=f"[upstream a]\nurl = http://127.0.0.1:{free_port()}/v1\n"
                                       "models = there, and-there\n")
        self.assertEqual(self.ids(daemon), ["and-there", "there"])
        batch = daemon.api.wait(daemon.api.submit(lines_of("elsewhere", 1)), "failed")
        self.assertEqual(batch["errors"]["data"][0]["code"], "model_not_found")

    def test_a_model_that_appears_or_disappears_is_followed(self):
        sim = self.strict("old")
        daemon = self.serve(sim.url, env=self.refresh)
        until("the list", lambda: self.ids(daemon) == ["old"])
        self.set_models(sim, ["new", "newer"])
        until("the new list", lambda: self.ids(daemon) == ["new", "newer"])
        data = lines_of("newer", 20)
        self.finished(daemon, daemon.api.submit(data), data, sim)
        batch = daemon.api.wait(daemon.api.submit(lines_of("old", 2)), "failed")
        self.assertEqual([e["line"] for e in batch["errors"]["data"]], [1, 2])


class Judged(Models):
    def test_a_model_that_nobody_serves_is_refused_with_its_line_and_param(self):
        a, b = self.strict("m-1"), self.strict("m-2")
        daemon = self.serve([a.url, b.url])
        data = lines_of("m-2", 2) + b"\n" + lines_of("m-9", 1, 7)
        batch = daemon.api.wait(daemon.api.submit(data), "failed")
        self.assertEqual(batch["errors"]["data"], [{
            "code": "model_not_found", "line": 4, "param": "body.model",
            "message": "The provided model 'm-9' is not supported by the Batch API."}])
        for sim in (a, b):
            self.assertEqual(sim.counts()["requests"], 0, "not a token was paid for")

    def test_who_does_not_list_its_models_serves_any(self):
        upstream = self.upstream()
        daemon = self.serve([self.strict("m-1").url, upstream.url])
        data = lines_of("anything", 10)
        self.finished(daemon, daemon.api.submit(data), data)
        self.assertEqual(self.models_of(upstream), {"anything"})
        self.assertEqual(len(upstream.seen), 10)

    def test_nothing_is_judged_before_a_slow_upstream_told_its_models(self):
        slow = self.upstream("m-1")
        told = slow.server.RequestHandlerClass.do_GET

        def late(handler):
            time.sleep(0.7)
            told(handler)
        slow.server.RequestHandlerClass.do_GET = late
        daemon = self.serve(slow.url)
        batch_id = daemon.api.submit(lines_of("m-2", 1))
        self.assertEqual(daemon.api.get(batch_id)["status"], "validating")
        batch = daemon.api.wait(batch_id, "failed")
        self.assertEqual(batch["errors"]["data"][0]["code"], "model_not_found")

    def test_a_line_without_a_model_is_taken(self):
        sim = self.upstream("m-1")
        daemon = self.serve(sim.url)
        line = {"custom_id": "c-0", "method": "POST", "url": CHAT, "body": {"messages": []}}
        data = json.dumps(line).encode() + b"\n"
        report = self.finished(daemon, daemon.api.submit(data), data)
        self.assertIsNone(report.batch["model"])

    def test_check_and_run_know_the_aliases_and_the_models(self):
        up = self.upstream("real")
        config = self.path("c.ini", b"[aliases]\nshort = real\n"
                                    b"[upstream a]\nurl = " + up.url.encode() +
                           b"\nmodels = real\n")
        self.path("in.jsonl", lines_of("short", 3))
        self.path("bad.jsonl", lines_of("short", 1) + lines_of("nobody", 1, 1))
        status, _, err = self.program("check", "--config", config, "in.jsonl")
        self.assertEqual(status, 0, err)
        status, out, _ = self.program("check", "--config", config, "--many-models", "bad.jsonl")
        self.assertEqual(status, 1)
        self.assertIn("bad.jsonl:2: model_not_found:", out)
        status, _, err = self.program("run", "--config", config, "in.jsonl", "-o", "out.jsonl")
        self.assertEqual(status, 0, err)
        self.assertEqual(self.models_of(up), {"real"})


class Placed(Models):
    def test_a_batch_goes_only_to_upstreams_that_serve_its_model(self):
        a, b = self.upstream("m-1", "both"), self.upstream("m-2", "both")
        daemon = self.serve([a.url, b.url])
        for model, seen in (("m-1", (30, 0)), ("m-2", (0, 30))):
            before = len(a.seen), len(b.seen)
            data = lines_of(model, 30)
            report = self.finished(daemon, daemon.api.submit(data), data)
            self.assertEqual(report.batch["model"], model)
            self.assertEqual((len(a.seen) - before[0], len(b.seen) - before[1]), seen)
        data = lines_of("both", 60)
        before = len(a.seen), len(b.seen)
        self.finished(daemon, daemon.api.submit(data), data)
        self.assertGreater(len(a.seen), before[0])
        self.assertGreater(len(b.seen), before[1])

    def test_a_batch_waits_while_nobody_serves_its_model(self):
        # Its list is not asked for again: the first line that comes back with 404 tells.
        sim = self.strict("m-1", "m-2")
        daemon = self.serve(sim.url, env={"BATCHD_MODELS_REFRESH": "1s"},
                            flags=["--max-inflight", "4"])
        data = lines_of("m-1", 500)
        batch_id = daemon.api.submit(data)
        until("some lines", lambda: daemon.api.get(batch_id)["request_counts"]["completed"] > 5)
        self.set_models(sim, ["m-2"])
        other = lines_of("m-2", 10)
        self.finished(daemon, daemon.api.submit(other), other)  # it is not held up
        until("the new list", lambda: self.ids(daemon) == ["m-2"])
        asked = sim.counts()["requests"]
        time.sleep(0.3)
        self.assertEqual(sim.counts()["requests"], asked, "nothing of it is sent")
        self.assertEqual(daemon.api.get(batch_id)["status"], "in_progress")
        self.set_models(sim, ["m-1", "m-2"])
        report = self.finished(daemon, batch_id, data)
        self.assertEqual(report.batch["request_counts"],
                         {"total": 500, "completed": 500, "failed": 0})

    def test_a_404_for_a_model_that_is_still_there_is_the_lines_own(self):
        up = Upstream(lambda _path, _body: (404, {}, b'{"error":{"message":"no such thing"}}'),
                      models=["m-1"])
        self.addCleanup(up.close)
        daemon = self.serve(up.url)
        data = lines_of("m-1", 50)
        report = self.finished(daemon, daemon.api.submit(data), data)
        self.assertEqual(report.batch["request_counts"]["failed"], 50)
        self.assertEqual(len(up.seen), 50, "each line is sent once")

    def test_a_server_that_comes_back_with_another_model_gets_no_line_of_the_old_one(self):
        port = free_port()
        sim = self.sim("--strict-models", "--model", "m-1", "--latency", "20ms", port=port)
        daemon = self.serve(sim.url)
        data = lines_of("m-1", 400)
        batch_id = daemon.api.submit(data)
        until("some lines", lambda: daemon.api.get(batch_id)["request_counts"]["completed"] > 5)
        sim.proc.kill9()
        time.sleep(0.2)  # until its breaker is open
        again = self.strict("m-2", port=port)
        until("its list", lambda: self.ids(daemon) == ["m-2"])
        time.sleep(0.3)
        self.assertEqual(again.counts()["requests"], 0)
        self.set_models(again, ["m-1"])
        daemon.restart()  # asks at the start
        daemon.api.wait(batch_id, "completed", patient=True)
        report = self.finished(daemon, batch_id, data)
        self.assertEqual(report.batch["request_counts"]["failed"], 0)

    def test_an_upstream_that_is_away_at_the_start_is_asked_when_it_comes(self):
        port = free_port()
        daemon = self.serve(f"http://127.0.0.1:{port}/v1")
        data = lines_of("m-1", 10)
        batch_id = daemon.api.submit(data)
        daemon.api.wait(batch_id, "in_progress")  # nobody can say that it is not there
        sim = self.strict("m-1", port=port)
        self.finished(daemon, batch_id, data, sim)


class Several(Models):
    def test_two_models_of_one_file_go_to_their_own_upstreams(self):
        a, b = self.upstream("m-1"), self.upstream("m-2")
        daemon = self.serve([a.url, b.url], flags=["--many-models"])
        data = b"".join(lines_of("m-1" if i % 3 else "m-2", 1, i) for i in range(90))
        report = self.finished(daemon, daemon.api.submit(data), data)
        self.assertEqual(len(report.output), 90)
        self.assertIsNone(report.batch["model"], "there is no one model to tell")
        self.assertEqual(report.batch["usage"]["total_tokens"], 90 * 5)
        self.assertEqual((len(a.seen), len(b.seen)), (60, 30))
        self.assertEqual((self.models_of(a), self.models_of(b)), ({"m-1"}, {"m-2"}))

    def test_a_model_whose_only_upstream_is_dead_does_not_hold_up_the_other(self):
        port = free_port()
        config = (f"[upstream a]\nurl = http://127.0.0.1:{port}/v1\nmodels = away\n"
                  f"[upstream b]\nurl = {self.strict('here').url}\n")
        daemon = self.serve([], config=config, flags=["--many-models"])
        # The lines of the one that is away come first.
        data = lines_of("away", 200) + lines_of("here", 200, 200)
        batch_id = daemon.api.submit(data)
        until("the other model's lines", lambda:
              daemon.api.get(batch_id)["request_counts"]["completed"] == 200)
        alone = lines_of("here", 20, 1000)
        self.finished(daemon, daemon.api.submit(alone), alone)
        self.assertEqual(daemon.api.get(batch_id)["status"], "in_progress")
        self.strict("away", port=port)
        self.finished(daemon, batch_id, data)

    def test_a_saturated_model_does_not_hold_up_the_other(self):
        slow, quick = self.upstream("slow"), self.upstream("quick")
        slow.gate.clear()
        daemon = self.serve([slow.url, quick.url], flags=["--many-models", "--max-inflight", "2"])
        data = lines_of("slow", 50) + lines_of("quick", 50, 50)
        batch_id = daemon.api.submit(data)
        until("the quick one's lines", lambda:
              daemon.api.get(batch_id)["request_counts"]["completed"] == 50)
        self.assertLessEqual(len(slow.seen), 2)
        slow.gate.set()
        self.finished(daemon, batch_id, data)

    def test_several_models_and_aliases_survive_a_crash(self):
        a, b = self.upstream("m-1"), self.upstream("m-2")
        a.gate.clear()
        daemon = self.serve([a.url, b.url], flags=["--many-models"],
                            config="[aliases]\nshort = m-1\n")
        data = b"".join(lines_of(("m-1", "m-2", "short")[i % 3], 1, i) for i in range(90))
        batch_id = daemon.api.submit(data)
        until("those of m-2", lambda:
              daemon.api.get(batch_id)["request_counts"]["completed"] == 30)
        daemon.kill9()
        a.gate.set()
        daemon.start()
        daemon.api.wait(batch_id, "completed", patient=True)
        report = self.finished(daemon, batch_id, data)
        self.assertEqual(len(report.output), 90)
        self.assertEqual((self.models_of(a), self.models_of(b)), ({"m-1"}, {"m-2"}))
        self.assertEqual(len(b.seen), 30, "what was done is not done again")

    def test_more_models_than_there_is_room_for_are_refused(self):
        daemon = self.serve(self.upstream().url, flags=["--many-models"])
        data = b"".join(lines_of(f"m-{i % 70}", 1, i) for i in range(140))
        errors = daemon.api.wait(daemon.api.submit(data), "failed")["errors"]["data"]
        self.assertEqual([(e["line"], e["code"], e["param"]) for e in errors],
                         [(65, "too_many_models", "body.model")])
        data = b"".join(lines_of(f"m-{i % 64}", 1, i) for i in range(128))
        self.finished(daemon, daemon.api.submit(data), data)

    def test_several_models_are_refused_by_default(self):
        daemon = self.serve(self.upstream().url)
        data = lines_of("m-1", 1) + lines_of("m-2", 1, 1)
        errors = daemon.api.wait(daemon.api.submit(data), "failed")["errors"]["data"]
        self.assertEqual([(e["line"], e["code"], e["param"]) for e in errors],
                         [(2, "mismatched_model", "body.model")])


# Bodies whose model is "gpt" in every way of saying so, and what else is called "model".
ALIASED = [
    (b'{"model":"gpt","messages":[]}', b'"gpt"'),
    (b'{ "messages" : [ {"role":"user","content":"\\"model\\":\\"gpt\\""} ] ,\t"model" : "gpt" }',
     b'"gpt" }'),
    (b'{"metadata":{"model":"gpt"},"tools":[{"model":"gpt"}],"model":"gpt","n":1.10}',
     b'"gpt","n"'),
    (b'{"model":"\\u0067pt","x":"\xf0\x9f\x98\x80"}', b'"\\u0067pt"'),
    (b'{"m\\u006fdel":"gpt","a":12345678901234567890}', b'"gpt"'),
]


REAL = '"my \\"llama\\"/\u00e9:8b"'.encode()


class Aliases(Models):
    def test_an_alias_changes_only_the_bytes_of_the_model(self):
        up = self.upstream('my "llama"/\u00e9:8b')
        daemon = self.serve(up.url, config='[aliases]\ngpt = my "llama"/\u00e9:8b\n')
        lines, want = [], []
        for i, (body, token) in enumerate(ALIASED):
            if i % 2:  # the id behind the body
                lines.append(b'{"body":%s,"url":"%s","method":"POST","custom_id":"c-%d"}'
                             % (body, CHAT.encode(), i))
            else:
                lines.append(b'{"custom_id":"c-%d","method":"POST","url":"%s", "body": %s }'
                             % (i, CHAT.encode(), body))
            self.assertEqual(body.count(token), 1)
            end = token.index(b'"', 1) + 1  # the value, and what tells it from the others
            want.append(body.replace(token, REAL + token[end:]))
        data = b"\n".join(lines) + b"\n"
        batch_id = daemon.api.submit(data)
        report = self.finished(daemon, batch_id, data)
        self.assertEqual(sorted(up.bodies()), sorted(want))
        self.assertEqual(report.batch["model"], "gpt", "the name that the file has")

    def test_a_retried_line_is_sent_under_the_name_again(self):
        answers = [(500, {}, b"{}"), (200, {"Content-Type": "application/json"}, ANSWER)]
        up = Upstream(lambda _path, _body: answers.pop(0), models=["real"])
        self.addCleanup(up.close)
        daemon = self.serve(up.url, config="[aliases]\nmuch-longer-than-the-real-name = real\n")
        data = lines_of("much-longer-than-the-real-name", 1)
        self.finished(daemon, daemon.api.submit(data), data)
        self.assertEqual(len(up.seen), 2)
        self.assertEqual(up.bodies()[0], up.bodies()[1])
        self.assertEqual(self.models_of(up), {"real"})

    def test_an_alias_of_an_alias_is_refused_with_a_sentence(self):
        config = self.path("c.ini", b"[aliases]\na = b\nb = c\n")
        status, _, err = self.program("serve", "--config", config, "--data-dir", self.path("d"))
        self.assertEqual(status, 2)
        self.assertIn("'a' stands for 'b', which is an alias itself", self.one_sentence(err))

    def test_lines_of_alias_and_model_together_need_many_models(self):
        up = self.upstream("real")
        daemon = self.serve(up.url, config="[aliases]\nshort = real\n")
        data = lines_of("short", 1) + lines_of("real", 1, 1)
        errors = daemon.api.wait(daemon.api.submit(data), "failed")["errors"]["data"]
        self.assertEqual(errors[0]["code"], "mismatched_model")

-- Chat completions of about 1.5 KB, 1,024 different bodies, to see what `batchd sim`
-- itself can carry: a benchmark of batchd must never measure the simulator.
--
--   taskset -c 0 build/batchd sim --listen 127.0.0.1:8400 &
--   taskset -c 1 wrk -t1 -c64 -d10s -s bench/sim_post.lua http://127.0.0.1:8400
local requests, turn = {}, 0

init = function(args)
   local text = string.rep("the quick brown fox jumps over the lazy dog ", 29)
   for i = 1, 1024 do
      local body = string.format(
         '{"model":"sim-model","max_tokens":200,"temperature":0.7,"messages":[' ..
         '{"role":"system","content":"You are a helpful assistant. Case %d."},' ..
         '{"role":"user","content":"%s"}]}', i, text)
      local headers = {
         ["Content-Type"] = "application/json",
         ["X-Request-Id"] = "bench-" .. i,
      }
      requests[i] = wrk.format("POST", "/v1/chat/completions", headers, body)
   end
end

request = function()
   turn = turn % 1024 + 1
   return requests[turn]
end

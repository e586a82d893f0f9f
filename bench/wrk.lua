-- Requests of many users, and one line of JSON at the end.
-- Arguments: method, body bytes, number of users.

local requests, turn = {}, 0

function init(arguments)
  local method = arguments[1] or "GET"
  local bytes = tonumber(arguments[2] or "0")
  local users = tonumber(arguments[3] or "1000")
  local body = bytes > 0 and string.rep("x", bytes) or nil
  for user = 1, users do
    local headers = {["Host"] = "127.0.0.1", ["X-User-Id"] = "user-" .. user}
    if body then headers["Content-Type"] = "application/json" end
    requests[user] = wrk.format(method, nil, headers, body)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "microseconds": %d, "failures": %d}\n',
    summary.requests, summary.duration,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end

-- Asks for REQUEST_PATH with the next token of the file named by TOKENS (none when unset), with a body of BODY_BYTES zeros when
-- that is set, and says at the end what came of it, as JSON.
local requests, at = {}, 0

local function request_with(token)
  local headers = { ["Host"] = "bench" }
  if token then headers["Authorization"] = "Bearer " .. token end
  local size = tonumber(os.getenv("BODY_BYTES") or "0")
  local path = os.getenv("REQUEST_PATH") or "/"
  if size > 0 then return wrk.format("POST", path, headers, string.rep("\0", size)) end
  return wrk.format("GET", path, headers)
end

function init(args)
  local file = os.getenv("TOKENS")
  if file then
    for token in io.lines(file) do requests[#requests + 1] = request_with(token) end
  else
    requests[1] = request_with(nil)
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency, _)
  local e = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "bytes": %d, "micros": %d, "not_ok": %d, "broken": %d, "p50": %d, "p99": %d}\n',
    summary.requests, summary.bytes, summary.duration, e.status, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end

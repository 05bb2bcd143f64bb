-- Load for wrk. With TOKENS, a file: every request carries its next token. With CREDENTIAL: every request revokes a stranger, whose
-- name begins with PREFIX. With PAUSE: each connection waits so many milliseconds before each request.
local requests, at = {}, 0
local credential, prefix = os.getenv("CREDENTIAL"), os.getenv("PREFIX") or "stranger"
local headers = { ["Host"] = "bench", ["Content-Type"] = "application/json" }

function init(args)
  if credential then
    headers["Authorization"] = "Bearer " .. credential
    return
  end
  for token in io.lines(os.getenv("TOKENS")) do
    requests[#requests + 1] = wrk.format("GET", "/", { ["Host"] = "bench", ["Authorization"] = "Bearer " .. token })
  end
end

function request()
  at = at + 1
  if credential then
    local body = '{"selector":{"issuer":"main","token_id":"' .. prefix .. "-" .. at .. '"}}'
    return wrk.format("POST", "/v1/revocations", headers, body)
  end
  return requests[(at - 1) % #requests + 1]
end

local pause = tonumber(os.getenv("PAUSE") or "0")
if pause > 0 then
  function delay()
    return pause
  end
end

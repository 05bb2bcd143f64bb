-- Refreshes, each with a refresh token of its own: what a token endpoint is asked all day.
local n, thread = 0, 0
function setup(t) t:set("id", thread); thread = thread + 1 end
function init() math.randomseed(os.time() + (id or 0)); salt = string.format("%08x", math.random(0, 0x7fffffff)) end
function request()
  n = n + 1
  local body = string.format("grant_type=refresh_token&client_id=bench&refresh_token=rt-%s-%d-%09d", salt, id or 0, n)
  return wrk.format("POST", "/token", { ["Content-Type"] = "application/x-www-form-urlencoded" }, body)
end

-- Every request carries the next token of the file named by TOKENS; none when it is unset.
local requests, at = {}, 0

function init(args)
  local path = os.getenv("TOKENS")
  if path then
    for token in io.lines(path) do
      requests[#requests + 1] = wrk.format("GET", "/", { ["Host"] = "bench", ["Authorization"] = "Bearer " .. token })
    end
  else
    requests[1] = wrk.format("GET", "/", { ["Host"] = "bench" })
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

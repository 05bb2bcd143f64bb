-- Removes rows that nobody has changed since they were read; answers how many. Each is its id, its position as eight bytes,
-- its selector, and the list of sets it is in.
local rows, selectors, positions, due = unpack(KEYS)
local at = 0
local function take()
  at = at + 1
  return ARGV[at]
end

local gone = 0
for _ = 1, tonumber(take()) do
  local id, position, selector = take(), take(), take()
  local row = redis.call('HGET', rows, id)
  local unchanged = row and string.sub(row, 1, 8) == position
  if unchanged then
    local unended = redis.call('HGET', selectors, selector) or ''
    local left = string.sub(unended, 1, 8)
    for from = 9, #unended, 16 do
      local other = string.sub(unended, from, from + 15)
      left = left .. (other ~= id and other or '')
    end
    if #left <= 8 then
      redis.call('HDEL', selectors, selector)
    elseif #left < #unended then
      redis.call('HSET', selectors, selector, left)
    end
    redis.call('HDEL', rows, id)
    redis.call('ZREM', positions, id)
    redis.call('ZREM', due, id)
    gone = gone + 1
  elseif not row then
    redis.call('ZREM', positions, id)
    redis.call('ZREM', due, id)
  end
  for _ = 1, tonumber(take()) do
    local label = take()
    if unchanged then
      redis.call('ZREM', label, id)
    end
  end
end
return gone

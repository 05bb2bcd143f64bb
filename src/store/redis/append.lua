-- Writes what was decided, unless something it was decided upon has changed meanwhile. Answers
-- {'WRITTEN', the log's end before, its end after, the mark there}, {'CONFLICT'} or {'LOST'}.
--
-- Rows count their places from 1; the log's end is added here. A list is its length and its items.
local head, news, rows, selectors, positions, due, audit, sweeps = unpack(KEYS)
local at = 0
local function take()
  at = at + 1
  return ARGV[at]
end
local function count()
  return tonumber(take())
end
-- Calls `command key` with the arguments in `list`, some thousand at a time: there is a limit to unpack. `width` is how
-- many belong together.
local function spread(command, key, list, width)
  local step = 3000 - 3000 % width
  for from = 1, #list, step do
    redis.call(command, key, unpack(list, from, math.min(from + step - 1, #list)))
  end
end
-- Whether the fields of a hash begin with what was read, or are missing where nothing was.
local function unchanged(key, whole)
  local left = count()
  while left > 0 do
    local some, fields, expected = math.min(left, 3000), {}, {}
    for i = 1, some do
      fields[i], expected[i] = take(), take()
    end
    local values = redis.call('HMGET', key, unpack(fields))
    for i = 1, some do
      local value = values[i] or ''
      if not whole then
        value = string.sub(value, 1, 8)
      end
      if value ~= expected[i] then
        return false
      end
    end
    left = left - some
  end
  return true
end

local random, fresh, schema, oldest, keep = take(), take(), take(), take(), count()
local log = log(head)
for _ = 1, count() do
  local position, mark = count(), take()
  if continuity(log, news, position, mark) == 'LOST' then
    return { 'LOST' }
  end
end
if not unchanged(rows, false) or not unchanged(selectors, true) then
  return { 'CONFLICT' }
end

if log.epoch == '' then
  log.epoch = fresh
  redis.call('HSET', head, 'epoch', fresh, 'schema', schema, 'oldest', oldest)
end
local before = log.position
local function place(offset)
  return struct.pack('>I8', before + offset)
end

local written, placed, timed, untimed, ids = {}, {}, {}, {}, {}
for i = 1, count() do
  local id, offset, body, expires = take(), count(), take(), take()
  ids[i] = id
  written[#written + 1] = id
  written[#written + 1] = place(offset) .. body
  placed[#placed + 1] = before + offset
  placed[#placed + 1] = id
  if expires == '' then
    untimed[#untimed + 1] = id
  else
    timed[#timed + 1] = expires
    timed[#timed + 1] = id
  end
end
spread('HSET', rows, written, 2)
spread('ZADD', positions, placed, 2)
spread('ZADD', due, timed, 2)
spread('ZREM', due, untimed, 1)

local named, unnamed = {}, {}
for _ = 1, count() do
  local selector, offset, unended = take(), count(), take()
  if unended == '' then
    unnamed[#unnamed + 1] = selector
  else
    named[#named + 1] = selector
    named[#named + 1] = place(offset) .. unended
  end
end
spread('HSET', selectors, named, 2)
spread('HDEL', selectors, unnamed, 1)

for _ = 1, count() do
  local label, labelled = take(), {}
  for _ = 1, count() do
    labelled[#labelled + 1] = before + count()
    labelled[#labelled + 1] = take()
  end
  spread('ZADD', label, labelled, 2)
end
local swept = {}
for _ = 1, count() do
  swept[#swept + 1] = take()
  swept[#swept + 1] = take()
end
spread('HSET', sweeps, swept, 2)

for _ = 1, count() do
  log.audit = log.audit + 1
  redis.call('XADD', audit, string.format('%.0f-0', log.audit), 'r', take())
end
local steps = count()
if steps > 0 then
  log.position = before + steps
  log.mark = log.epoch .. random
  local id = string.format('%.0f-0', log.position)
  local first = string.format('%.0f-0', math.max(log.position - keep, 0))
  redis.call('XADD', news, 'MINID', '~', first, id, 'm', log.mark, 'c', table.concat(ids))
end
redis.call('HSET', head, 'position', string.format('%.0f', log.position), 'mark', log.mark,
  'audit', string.format('%.0f', log.audit))
return { 'WRITTEN', before, log.position, log.mark }

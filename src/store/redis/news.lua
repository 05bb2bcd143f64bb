-- What changed after a position: {'HELD', where the page ends, the mark there, the log's end, the mark there, changes},
-- {'LOST'} or {'TRIMMED'}. A change is the id of a row, the row, and the ids and rows of all others of its selector without an ending.
local head, news, rows, selectors = unpack(KEYS)
local after, mark, limit = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local log = log(head)
local held = continuity(log, news, after, mark)
if held ~= 'HELD' then
  return { held }
end
if after == log.position then
  return { held, log.position, log.mark, log.position, log.mark, {} }
end
-- Without the mark nothing has shown yet that all since then is kept.
local oldest = redis.call('XRANGE', news, '-', '+', 'COUNT', 1)[1]
if mark == '' and oldest and after > 0 and tonumber(string.match(oldest[1], '^%d+')) > after then
  return { 'TRIMMED' }
end

local function change(id, row)
  local length = struct.unpack('>I2', row, 9)
  local unended = redis.call('HGET', selectors, string.sub(row, 11, 10 + length)) or ''
  local found = { id, row }
  for from = 9, #unended, 16 do
    local other = string.sub(unended, from, from + 15)
    local held = other ~= id and redis.call('HGET', rows, other)
    if held then
      found[#found + 1] = other
      found[#found + 1] = held
    end
  end
  return found
end

local changes = {}
local upto, upto_mark = after, mark
while #changes < limit do
  local entries = redis.call('XRANGE', news, string.format('(%.0f-0', upto), '+', 'COUNT', 100)
  for _, entry in ipairs(entries) do
    local position, ids = tonumber(string.match(entry[1], '^%d+')), entry[2][4]
    for from = 1, #ids, 16 do
      local id = string.sub(ids, from, from + 15)
      local row = redis.call('HGET', rows, id)
      -- What has changed again since comes again, later; what is forgotten had expired.
      if row and struct.unpack('>I8', row) <= position then
        changes[#changes + 1] = change(id, row)
      end
    end
    upto, upto_mark = position, entry[2][2]
    if #changes >= limit then
      break
    end
  end
  if #entries == 0 or upto == log.position then
    upto, upto_mark = log.position, log.mark
    break
  end
end
return { held, upto, upto_mark, log.position, log.mark, changes }

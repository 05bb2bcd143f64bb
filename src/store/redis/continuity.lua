-- The log's end, and whether the log still holds a position with the mark that was set there.
local function log(head)
  local state = redis.call('HMGET', head, 'epoch', 'position', 'mark', 'audit')
  return {
    epoch = state[1] or '',
    position = tonumber(state[2] or 0),
    mark = state[3] or '',
    audit = tonumber(state[4] or 0),
  }
end

-- 'HELD'; 'TRIMMED': it was held once and is older than what is kept; 'LOST': it is not in this history.
-- A mark begins with the epoch of the store that set it. The mark '' stands for one that is not known.
local function continuity(log, news, position, mark)
  if position == 0 then
    return 'HELD'
  end
  if position > log.position then
    return 'LOST'
  end
  if mark == '' or (position == log.position and mark == log.mark) then
    return 'HELD'
  end
  local id = string.format('%.0f-0', position)
  local entry = redis.call('XRANGE', news, id, id)[1]
  if entry then
    return entry[2][2] == mark and 'HELD' or 'LOST'
  end
  local oldest = redis.call('XRANGE', news, '-', '+', 'COUNT', 1)[1]
  local trimmed = oldest and tonumber(string.match(oldest[1], '^%d+')) > position
  return trimmed and string.sub(mark, 1, 8) == log.epoch and 'TRIMMED' or 'LOST'
end


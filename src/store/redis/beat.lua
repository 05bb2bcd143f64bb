-- Takes a sign of life whose checkpoint the log holds, and forgets who was silent for too long: 'TAKEN' or 'LOST'. Positions
-- that are no longer told have been held.
local head, news, replicas = unpack(KEYS)
if continuity(log(head), news, tonumber(ARGV[1]), ARGV[2]) == 'LOST' then
  return 'LOST'
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', replicas, ARGV[3], string.format('%.0f %s', now, ARGV[4]))
local known = redis.call('HGETALL', replicas)
for i = 1, #known, 2 do
  if now - tonumber(string.match(known[i + 1], '^%d+')) >= tonumber(ARGV[5]) then
    redis.call('HDEL', replicas, known[i])
  end
end
return 'TAKEN'

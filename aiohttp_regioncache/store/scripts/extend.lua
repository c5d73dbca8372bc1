-- Keep claimed resources for another lease. KEYS: lease, due   ARGV: fence and digest of each, the lease in ms
-- Returns the digests that still are their fence's.
local lease, due = KEYS[1], KEYS[2]
go_on_at_full_memory(due)
local until_ms, kept = now_ms() + tonumber(ARGV[#ARGV]), {}
for i = 1, #ARGV - 1, 2 do
  local owner = redis.call('HGET', lease, ARGV[i + 1])
  if owner and string.match(owner, '^(.*)|%d+$') == ARGV[i] then
    redis.call('ZADD', due, 'XX', until_ms, ARGV[i + 1])
    kept[#kept + 1] = ARGV[i + 1]
  end
end
return kept

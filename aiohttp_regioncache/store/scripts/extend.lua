-- Keep claimed resources for another lease. KEYS: lease, due   ARGV: fence, lease in ms, digests
-- Returns how many are still this fence's.
local lease, due, fence = KEYS[1], KEYS[2], ARGV[1]
go_on_at_full_memory(due)
local until_ms, kept = now_ms() + tonumber(ARGV[2]), 0
for i = 3, #ARGV do
  local owner = redis.call('HGET', lease, ARGV[i])
  if owner and string.match(owner, '^(.*)|%d+$') == fence then
    redis.call('ZADD', due, 'XX', until_ms, ARGV[i])
    kept = kept + 1
  end
end
return kept

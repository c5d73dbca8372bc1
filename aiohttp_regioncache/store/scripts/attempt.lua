-- Note before it is sent that a write which may not be repeated may be at the origin from now on.
-- KEYS: lease, status   ARGV: fence, digest   Returns whether an earlier attempt's outcome is unknown; -1: not this fence's
go_on_at_full_memory(KEYS[1])
local owner = redis.call('HGET', KEYS[1], ARGV[2])
if not owner or string.match(owner, '^(.*)|%d+$') ~= ARGV[1] then return -1 end
local before = redis.call('HGET', KEYS[2], 'unknown') == '1'
redis.call('HSET', KEYS[2], 'unknown', '1')
return before and 1 or 0

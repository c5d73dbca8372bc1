-- Note before it is sent that a write which may not be repeated may be at the origin from now on.
-- A call repeated after a lost reply does not take its own mark for another attempt's: the mark is the fence.
-- KEYS: lease, status   ARGV: fence, digest   Returns whether an earlier attempt's outcome is unknown; -1: not this fence's
go_on_at_full_memory(KEYS[1])
local owner = redis.call('HGET', KEYS[1], ARGV[2])
if not owner or string.match(owner, '^(.*)|%d+$') ~= ARGV[1] then return -1 end
local before = redis.call('HGET', KEYS[2], 'unknown') or '0'
-- Another attempt's mark stays: it is what a call repeated after a lost reply must see again.
if before ~= '' and before ~= '0' and before ~= ARGV[1] then return 1 end
redis.call('HSET', KEYS[2], 'unknown', ARGV[1])
return 0

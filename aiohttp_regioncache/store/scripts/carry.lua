-- Be, or stay, the one who carries a partition's invalidations to a region.
-- KEYS: cursors, courier   ARGV: name, lifetime in ms, region   Returns: {whether it is this one, the region's cursor}
go_on_at_full_memory(KEYS[1])
local owner = redis.call('GET', KEYS[2])
if owner and owner ~= ARGV[1] then return {0, false} end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return {1, redis.call('HGET', KEYS[1], ARGV[3])}

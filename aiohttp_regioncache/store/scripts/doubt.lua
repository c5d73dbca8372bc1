-- Note of some writes that an attempt to send them has an unknown outcome. Nothing happens when they are not this fence's.
-- KEYS: lease, then the status of each   ARGV: fence, digest
go_on_at_full_memory(KEYS[1])
local owner = redis.call('HGET', KEYS[1], ARGV[2])
if not owner or string.match(owner, '^(.*)|%d+$') ~= ARGV[1] then return 0 end
for i = 2, #KEYS do
  if redis.call('HGET', KEYS[i], 'state') == 'pending' then redis.call('HSET', KEYS[i], 'unknown', '1') end
end
return 1

-- Give a claimed resource back, due again after a delay. Stalls are remembered until somebody has tried again.
-- KEYS: lease, due, the resource's queue, status (of the write that was tried)   ARGV: fence, digest, delay in ms, tries, then status fields
local lease, due, queue, status, fence, digest = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1], ARGV[2]
local owner, stalls = string.match(redis.call('HGET', lease, digest) or '', '^(.*)|(%d+)$')
if owner ~= fence then return 'lost' end
redis.call('HDEL', lease, digest)
if redis.call('EXISTS', queue) == 0 then
  redis.call('ZREM', due, digest)
else
  redis.call('ZADD', due, 'XX', now_ms() + tonumber(ARGV[3]), digest)
  if #ARGV == 4 and tonumber(stalls) > 0 then redis.call('HSET', lease, digest, '|' .. stalls) end
end
if #ARGV > 4 and redis.call('EXISTS', status) == 1 then
  redis.call('HINCRBY', status, 'tries', ARGV[4])
  redis.call('HSET', status, unpack(ARGV, 5))
end
return 'deferred'

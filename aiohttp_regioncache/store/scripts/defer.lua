-- Give a claimed resource back, due again after a delay.
-- KEYS: lease, due, the resource's queue, status (of the write that was tried)   ARGV: fence, digest, delay in ms, tries, then status fields
local lease, due, queue, status, fence, digest = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1], ARGV[2]
local owner = redis.call('HGET', lease, digest)
if not owner or string.match(owner, '^(.*)|%d+$') ~= fence then return 'lost' end
redis.call('HDEL', lease, digest)
if redis.call('EXISTS', queue) == 0 then
  redis.call('ZREM', due, digest)
else
  redis.call('ZADD', due, 'XX', now_ms() + tonumber(ARGV[3]), digest)
end
if redis.call('EXISTS', status) == 1 and tonumber(ARGV[4]) > 0 then
  redis.call('HINCRBY', status, 'tries', ARGV[4])
  if #ARGV > 4 then redis.call('HSET', status, unpack(ARGV, 5)) end
end
return 'deferred'

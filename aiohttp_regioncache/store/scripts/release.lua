-- Give a seized resource back. What is blocked stays so, and stalls are remembered. KEYS: due, lease, blocked, the resource's queue
-- ARGV: fence, digest, channel, message
local due, lease, blocked, queue, digest = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[2]
local owner, stalls = string.match(redis.call('HGET', lease, digest) or '', '^(.*)|(%d+)$')
if owner ~= ARGV[1] then return 'lost' end
redis.call('HDEL', lease, digest)
local waits = redis.call('EXISTS', queue) == 1
if waits and tonumber(stalls) > 0 then redis.call('HSET', lease, digest, '|' .. stalls) end
if waits and redis.call('HEXISTS', blocked, digest) == 0 then
  redis.call('ZADD', due, now_ms(), digest)
  redis.call('PUBLISH', ARGV[3], ARGV[4])
else
  redis.call('ZREM', due, digest)
end
return 'released'

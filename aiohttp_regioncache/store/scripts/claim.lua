-- Claim due resources for a fence; a claim repeated after a lost reply returns what its fence already holds.
-- KEYS: due, lease   ARGV: fence, limit, lease in ms   Returns: digest, stalls, digest, stalls, ...
local due, lease, fence = KEYS[1], KEYS[2], ARGV[1]
local claimed = {}
local held = redis.call('HGETALL', lease)
for i = 1, #held, 2 do
  local owner, stalls = string.match(held[i + 1], '^(.*)|(%d+)$')
  if owner == fence then
    claimed[#claimed + 1] = held[i]
    claimed[#claimed + 1] = tonumber(stalls)
  end
end
if #claimed > 0 then return claimed end

local now = now_ms()
local ready = redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, ARGV[2])
for _, digest in ipairs(ready) do
  local before = redis.call('HGET', lease, digest)
  -- A lease that is still there was never given back: its holder stalled or died.
  local stalls = before and tonumber(string.match(before, '|(%d+)$')) + 1 or 0
  redis.call('ZADD', due, 'XX', now + tonumber(ARGV[3]), digest)
  redis.call('HSET', lease, digest, fence .. '|' .. stalls)
  claimed[#claimed + 1] = digest
  claimed[#claimed + 1] = stalls
end
return claimed

-- Claim due resources for a fence; a claim repeated after a lost reply returns what its fence already holds.
-- KEYS: due, lease   ARGV: fence, limit, lease in ms   Returns: digest, stalls, digest, stalls, ...
local due, lease, fence = KEYS[1], KEYS[2], ARGV[1]
go_on_at_full_memory(due)
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
  local owner, stalls = string.match(before or '|0', '^(.*)|(%d+)$')
  -- A lease that still has an owner was never given back: its holder stalled or died.
  if owner ~= '' then stalls = stalls + 1 end
  redis.call('ZADD', due, 'XX', now + tonumber(ARGV[3]), digest)
  redis.call('HSET', lease, digest, string.format('%s|%d', fence, stalls))
  claimed[#claimed + 1] = digest
  claimed[#claimed + 1] = tonumber(stalls)
end
return claimed

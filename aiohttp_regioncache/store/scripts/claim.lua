-- Claim due resources for a fence; a claim repeated after a lost reply returns what its fence already holds.
-- KEYS: due, lease   ARGV: fence, limit, lease in ms   Returns: digest, stalls, digest, stalls, ...
local due, lease, fence = KEYS[1], KEYS[2], ARGV[1]
local most = 1000  -- Lua takes no more arguments than some thousands
go_on_at_full_memory(due)
local claimed = {}
local held = redis.call('HGETALL', lease)
for i = 1, #held, 2 do
  if string.sub(held[i + 1], 1, #fence + 1) == fence .. '|' then
    claimed[#claimed + 1] = held[i]
    claimed[#claimed + 1] = tonumber(string.match(held[i + 1], '|(%d+)$'))
  end
end
if #claimed > 0 then return claimed end

local now = now_ms()
local ready = redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, math.min(tonumber(ARGV[2]), most))
if #ready == 0 then return claimed end
local leases, times = {}, {}
for i, before in ipairs(redis.call('HMGET', lease, unpack(ready))) do
  local owner, stalls = string.match(before or '|0', '^(.*)|(%d+)$')
  -- A lease that still has an owner was never given back: its holder stalled or died.
  if owner ~= '' then stalls = stalls + 1 end
  leases[#leases + 1] = ready[i]
  leases[#leases + 1] = string.format('%s|%d', fence, stalls)
  times[#times + 1] = now + tonumber(ARGV[3])
  times[#times + 1] = ready[i]
  claimed[#claimed + 1] = ready[i]
  claimed[#claimed + 1] = tonumber(stalls)
end
redis.call('ZADD', due, 'XX', unpack(times))
redis.call('HSET', lease, unpack(leases))
return claimed

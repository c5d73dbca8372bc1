-- Read the oldest writes of several claimed resources, of as many as are not too much together.
-- KEYS: the resources' queues   ARGV: how many writes of each at most, bytes   Returns of each: write, number, write, number, ...
local last, left, found = ARGV[1] - 1, tonumber(ARGV[2]), {}
for i, queue in ipairs(KEYS) do
  if left <= 0 then break end
  local writes = redis.pcall('ZRANGE', queue, 0, last, 'WITHSCORES')
  if writes.err then writes = {} end
  for n = 1, #writes, 2 do left = left - #writes[n] end
  found[i] = writes
end
return found

-- Let go of a dead or rejected write for good; what it blocked goes on.
-- KEYS: due, status, body, blocked, dead, rejected, the resource's queue
-- ARGV: digest, id, status lifetime in ms, channel, message   Returns `dropped`, `unknown` or the other state that it is in
local due, status, body, blocked, dead, rejected, queue = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local digest, id = ARGV[1], ARGV[2]
go_on_at_full_memory(due)
local state = redis.call('HGET', status, 'state')
if not state then return 'unknown' end
if state ~= 'dead' and state ~= 'rejected' then return state end
redis.call('ZREM', dead, id)
redis.call('ZREM', rejected, id)
redis.call('DEL', body)
for _, field in ipairs(redis.call('HKEYS', status)) do
  if field == 'record' or string.sub(field, 1, 4) == 'copy' then redis.call('HDEL', status, field) end
end
redis.call('HSETNX', status, 'dropped', now_ms())
redis.call('PEXPIRE', status, ARGV[3])
if redis.call('HGET', blocked, digest) == id then
  redis.call('HDEL', blocked, digest)
  if redis.call('EXISTS', queue) == 1 then
    redis.call('ZADD', due, now_ms(), digest)
    redis.call('PUBLISH', ARGV[4], ARGV[5])
  end
end
return 'dropped'

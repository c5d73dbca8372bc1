-- Claim one resource for an operator, unless a sender holds it. KEYS: due, lease   ARGV: fence, digest, lease in ms
-- Returns `seized` or `busy`, and how often a sender vanished over its head.
local due, lease, fence, digest = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
go_on_at_full_memory(due)
local owner, stalls = string.match(redis.call('HGET', lease, digest) or '|0', '^(.*)|(%d+)$')
local due_at = redis.call('ZSCORE', due, digest)
if owner == fence then return {'seized', tonumber(stalls)} end
-- What is not due has no sender: what holds it is another operator's, who is gone or will be told so.
if owner ~= '' and due_at then
  if tonumber(due_at) > now_ms() then return {'busy', 0} end
  stalls = stalls + 1
end
redis.call('HSET', lease, digest, string.format('%s|%d', fence, stalls))
redis.call('ZADD', due, 'XX', now_ms() + tonumber(ARGV[3]), digest)
return {'seized', tonumber(stalls)}

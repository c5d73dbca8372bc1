-- Queue a dead or rejected write again, at its old place before all that came after it.
-- Not while a sender holds the resource: it would find another write at the head than the one that it is sending.
-- KEYS: due, lease, queue, processed, bytes, seq, status, body, principals, blocked, dead, rejected, idempotency, then the target and each affected resource
-- ARGV: digest, id, token, state lifetime in ms, channel, message   Returns `revived`, `busy`, `unknown` or how it has ended for good
local due, lease, queue, processed, bytes, seq_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local status, body, principals, blocked = KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local dead, rejected, idempotency, first_resource = KEYS[11], KEYS[12], KEYS[13], 14
local digest, id, token, state_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local found = redis.call('HMGET', status, 'state', 'record', 'seq', 'size', 'principal', 'body', 'shared')
local state, record, seq, size, principal = found[1], found[2], found[3], tonumber(found[4] or 0), found[5]
if not state then return 'unknown' end
if state == 'pending' then return 'revived' end
if (state ~= 'dead' and state ~= 'rejected') or not record then return state end
if found[6] == '1' and redis.call('EXISTS', body) == 0 then return state end
local owner, stalls = string.match(redis.call('HGET', lease, digest) or '|0', '^(.*)|(%d+)$')
local due_at = redis.call('ZSCORE', due, digest)
if owner ~= '' and due_at and tonumber(due_at) > now_ms() then return 'busy' end

redis.call('PERSIST', status)
redis.call('PERSIST', body)
redis.call('PERSIST', idempotency)
redis.call('INCRBY', bytes, size)
redis.call('HINCRBY', principals, principal, 1)
redis.call('ZADD', queue, seq, numbered(seq, id))
for at = first_resource, #KEYS, 4 do
  local keys = resource(at)
  local known = read_or_mint_state(keys, token)
  local copy = 'copy' .. (at - first_resource) / 4
  local element = at == first_resource and record or redis.call('HGET', status, copy)
  if at == first_resource then
    redis.call('ZADD', keys.queue, seq, element)
    known.octets = (known.octets or 0) + size
  elseif element and element ~= '' then
    add_affected(keys.affected, found[7], principal, seq, element)
  end
  redis.call('HDEL', status, copy)
  write_state(keys, known, state_ms)
end
redis.call('HDEL', status, 'record', 'fence', 'blocks', 'reason', 'unknown', 'problem', 'settled', 'answer', 'answer_headers', 'answer_body')
redis.call('HSET', status, 'state', 'pending', 'tries', 0, 'revived', now_ms())
redis.call('ZREM', dead, id)
redis.call('ZREM', rejected, id)
move_watermark(processed, queue, seq_key)

-- A lease that still has an owner has run out: the owner vanished, and must find that it is not its own any more.
if owner ~= '' then redis.call('HSET', lease, digest, string.format('|%d', due_at and stalls + 1 or stalls)) end
if redis.call('HGET', blocked, digest) == id then redis.call('HDEL', blocked, digest) end
if redis.call('HEXISTS', blocked, digest) == 0 then
  redis.call('ZADD', due, now_ms(), digest)
  redis.call('PUBLISH', ARGV[5], ARGV[6])
end
return 'revived'

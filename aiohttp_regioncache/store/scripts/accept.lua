-- Accept one write: all or nothing. A call repeated after a lost reply changes nothing.
-- KEYS: idempotency, seq, queue, due, bytes, status, body, principals, then the target and each affected resource
-- ARGV: see aiohttp_regioncache/store/queue.py
local idempotency, seq_key, queue, due, bytes = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local status, body, principals = KEYS[6], KEYS[7], KEYS[8]
local id, fingerprint, digest, principal = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local size, body_stored, token = tonumber(ARGV[5]), ARGV[6] == '1', ARGV[7]
local max_writes, max_bytes = tonumber(ARGV[8]), tonumber(ARGV[9])
local max_resource, max_principal = tonumber(ARGV[10]), tonumber(ARGV[11])
local idempotency_ms, state_ms, channel, message = ARGV[12], ARGV[13], ARGV[14], ARGV[15]
local first_element = 16

if redis.call('EXISTS', status) == 1 then
  -- The repeated call has stored the body again, with a lifetime.
  if redis.call('HGET', status, 'state') == 'pending' then redis.call('PERSIST', body) end
  return {'accepted', id, 0}
end
local known = idempotency_ms ~= '0' and redis.call('GET', idempotency)
if known then
  local known_id, known_fingerprint = string.match(known, '^([^|]*)|(.*)$')
  if known_fingerprint == fingerprint then return {'known', known_id, 0} end
  return {'mismatch', known_id, 0}
end

local target = resource(9)
if redis.call('ZCARD', queue) >= max_writes then return {'full', 'writes', 0} end
if tonumber(redis.call('GET', bytes) or '0') + size > max_bytes then return {'full', 'bytes', 0} end
if redis.call('ZCARD', target.queue) >= max_resource then return {'full', 'resource', 0} end
if tonumber(redis.call('HGET', principals, principal) or '0') >= max_principal then return {'full', 'principal', 0} end
if body_stored and redis.call('EXISTS', body) == 0 then return {'no-body', id, 0} end

local seq = redis.call('INCR', seq_key)
local now = now_ms()
if body_stored then redis.call('PERSIST', body) end
redis.call('INCRBY', bytes, size)
redis.call('HINCRBY', principals, principal, 1)
redis.call('ZADD', queue, seq, string.format('%016d|%s', seq, id))
local element = first_element
for at = 9, #KEYS, 4 do
  local keys = resource(at)
  local state, minted = read_or_mint_state(keys, token)
  if minted then redis.call('DEL', keys.landed) end
  redis.call('ZADD', at == 9 and keys.queue or keys.affected, seq, ARGV[element])
  write_state(keys, state, state_ms)
  element = element + 1
end
if idempotency_ms ~= '0' then redis.call('SET', idempotency, id .. '|' .. fingerprint, 'PX', idempotency_ms) end
redis.call('HSET', status, 'state', 'pending', 'seq', seq, 'accepted', now, 'tries', 0, 'stalls', 0, unpack(ARGV, element))
if redis.call('ZADD', due, 'NX', now, digest) == 1 then redis.call('PUBLISH', channel, message) end
return {'accepted', id, seq}

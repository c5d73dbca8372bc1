-- Accept one write: all or nothing. A call repeated after a lost reply changes nothing.
-- Whatever says that the write is there also writes: a durability that is asked for afterwards covers what this
-- connection has written, and the write itself may have come over another one.
-- KEYS: idempotency, seq, queue, due, bytes, status, body, principals, sizes, blocked, then the target and each affected resource
-- ARGV: see aiohttp_regioncache/store/queue.py
local idempotency, seq_key, queue, due, bytes = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local status, body, principals, sizes, blocked = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local first_resource = 11
local id, fingerprint, digest, principal = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local size, body_stored, token = tonumber(ARGV[5]), ARGV[6] == '1', ARGV[7]
local max_writes, max_bytes, max_resource = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local max_resource_bytes, max_principal = tonumber(ARGV[11]), tonumber(ARGV[12])
local has_key, state_ms, channel, message = ARGV[13] == '1', ARGV[14], ARGV[15], ARGV[16]
local element = 17

if redis.call('EXISTS', status) == 1 then
  -- The repeated call has stored the body again, with a lifetime.
  if redis.call('HGET', status, 'state') == 'pending' then redis.call('PERSIST', body) end
  go_on_at_full_memory(queue)
  redis.call('HINCRBY', status, 'repeats', 1)
  return {'accepted', id, 0}
end
local known = has_key and redis.call('GET', idempotency)
if known then
  local known_id, known_fingerprint = string.match(known, '^([^|]*)|(.*)$')
  if known_fingerprint ~= fingerprint then return {'mismatch', known_id, 0} end
  go_on_at_full_memory(queue)
  redis.call('SET', idempotency, known, 'KEEPTTL')
  return {'known', known_id, 0}
end

local target = resource(first_resource)
local function full(cap)
  return {'full', cap, redis.call('ZCARD', target.queue) + redis.call('HEXISTS', blocked, digest)}
end
-- A blocked resource holds a dead write that waits for an operator: it takes a place too.
if redis.call('ZCARD', queue) + redis.call('HLEN', blocked) >= max_writes then return full('writes') end
if tonumber(redis.call('GET', bytes) or '0') + size > max_bytes then return full('bytes') end
if redis.call('ZCARD', target.queue) >= max_resource then return full('resource') end
local waiting = tonumber(redis.call('HGET', sizes, digest) or '0')
if waiting > 0 and waiting + size > max_resource_bytes then return full('resource') end
if tonumber(redis.call('HGET', principals, principal) or '0') >= max_principal then return full('principal') end
if body_stored and redis.call('EXISTS', body) == 0 then return {'no-body', id, 0} end

local seq = redis.call('INCR', seq_key)
local now = now_ms()
if body_stored then redis.call('PERSIST', body) end
count_pending(bytes, sizes, principals, digest, principal, size)
redis.call('ZADD', queue, seq, numbered(seq, id))
local before = redis.call('ZREVRANGE', target.queue, 0, 0, 'WITHSCORES')[2]
for at = first_resource, #KEYS, 4 do
  local keys = resource(at)
  local state, minted = read_or_mint_state(keys, token)
  if minted then redis.call('DEL', keys.landed) end
  redis.call('ZADD', at == first_resource and keys.queue or keys.affected, seq, ARGV[element])
  write_state(keys, state, state_ms)
  element = element + 1
end
-- Without a lifetime until the write has settled: it may not be evicted before.
if has_key then redis.call('SET', idempotency, id .. '|' .. fingerprint) end
redis.call('HSET', status, 'state', 'pending', 'seq', seq, 'after', before or 0, 'accepted', now, 'tries', 0,
  unpack(ARGV, element))
local stands = redis.call('HEXISTS', blocked, digest) == 0 and redis.call('ZADD', due, 'NX', now, digest) == 1
if stands then redis.call('PUBLISH', channel, message) end
return {'accepted', id, seq}

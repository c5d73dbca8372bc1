-- Accept writes, one after another, each all or nothing. A call repeated after a lost reply changes nothing.
-- What is wrong with the keys of one keeps no other from being accepted.
-- Whatever says that a write is there also writes: a durability that is asked for afterwards covers what this
-- connection has written, and the write itself may have come over another one.
-- KEYS: seq, queue, due, bytes, principals, sizes, blocked
--   then for each write: idempotency, status, body, and the keys of the target and each affected resource
-- ARGV: see aiohttp_regioncache/store/queue.py   Returns for each write {verdict, detail, number}
local seq_key, queue, due, bytes = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local principals, sizes, blocked = KEYS[5], KEYS[6], KEYS[7]
local token, state_ms, channel, message = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local max_writes, max_bytes, max_resource = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local max_resource_bytes, max_principal = tonumber(ARGV[8]), tonumber(ARGV[9])

local now = now_ms()
local is_new = false
-- What the partition has pending, counted once for all of them: writes, dead ones that hold back others, and octets.
local waiting_writes, dead_writes, held_bytes = redis.call('ZCARD', queue), redis.call('HLEN', blocked), nil
local more_bytes = 0

local function accept(key, last_key, at, last)
  local idempotency, status, body, first_resource = KEYS[key], KEYS[key + 1], KEYS[key + 2], key + 3
  local id, fingerprint, digest, principal = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local size, body_stored, has_key = tonumber(ARGV[at + 4]), ARGV[at + 5] == '1', ARGV[at + 6] == '1'
  local shared, element = ARGV[at + 7], at + 8

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
  local own = redis.call('ZCARD', target.queue)
  local is_blocked = dead_writes > 0 and redis.call('HEXISTS', blocked, digest) == 1
  local function full(cap)
    return {'full', cap, own + (is_blocked and 1 or 0)}
  end
  held_bytes = held_bytes or tonumber(redis.call('GET', bytes) or '0')
  -- A blocked resource holds a dead write that waits for an operator: it takes a place too.
  if waiting_writes + dead_writes >= max_writes then return full('writes') end
  if held_bytes + more_bytes + size > max_bytes then return full('bytes') end
  if own >= max_resource then return full('resource') end
  local waiting = own > 0 and tonumber(redis.call('HGET', sizes, digest) or '0') or 0
  if waiting > 0 and waiting + size > max_resource_bytes then return full('resource') end
  if tonumber(redis.call('HGET', principals, principal) or '0') >= max_principal then return full('principal') end
  if body_stored and redis.call('EXISTS', body) == 0 then return {'no-body', id, 0} end

  local seq = redis.call('INCR', seq_key)
  if body_stored then redis.call('PERSIST', body) end
  count_pending(sizes, principals, digest, principal, size)
  more_bytes = more_bytes + size
  redis.call('ZADD', queue, seq, numbered(seq, id))
  waiting_writes = waiting_writes + 1
  local before = own > 0 and redis.call('ZREVRANGE', target.queue, 0, 0, 'WITHSCORES')[2]
  for first = first_resource, last_key, 4 do
    local keys = resource(first)
    local state, minted = read_or_mint_state(keys, token)
    if minted then redis.call('DEL', keys.landed) end
    if first == first_resource then
      redis.call('ZADD', keys.queue, seq, ARGV[element])
    else
      add_affected(keys.affected, shared, principal, seq, ARGV[element])
    end
    write_state(keys, state, state_ms, first == first_resource and own + 1 or nil)
    element = element + 1
  end
  -- Without a lifetime until the write has settled: it may not be evicted before.
  if has_key then redis.call('SET', idempotency, id .. '|' .. fingerprint) end
  redis.call('HSET', status, 'state', 'pending', 'seq', seq, 'after', before or 0, 'accepted', now, 'tries', 0,
    unpack(ARGV, element, last))
  local stands = not is_blocked and redis.call('ZADD', due, 'NX', now, digest) == 1
  is_new = is_new or stands
  return {'accepted', id, seq}
end

local function count_bytes()
  if more_bytes > 0 then redis.call('INCRBY', bytes, more_bytes) end
end

local answers = {}
local key, at = 8, 10
while key <= #KEYS do
  local last_key, last = key + 2 + 4 * ARGV[at], at + 1 + ARGV[at + 1]
  local is_well, answer = pcall(accept, key, last_key, at + 2, last)
  if not is_well then
    local text = type(answer) == 'table' and answer.err or tostring(answer)
    answer = redis.error_reply(text)
    -- A server that takes no writes now takes none of these.
    if string.sub(text, 1, 9) ~= 'WRONGTYPE' then
      count_bytes()
      return answer
    end
  end
  answers[#answers + 1] = answer
  key, at = last_key + 1, last + 1
end
count_bytes()
if is_new then redis.call('PUBLISH', channel, message) end
return answers

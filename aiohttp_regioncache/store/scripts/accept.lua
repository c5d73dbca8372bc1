-- Accept writes, one after another, each all or nothing. A call repeated after a lost reply changes nothing.
-- What is wrong with the keys of one keeps no other from being accepted.
-- Whatever says that a write is there also writes: a durability that is asked for afterwards covers what this
-- connection has written, and the write itself may have come over another one.
-- KEYS: seq, queue, due, bytes, principals, blocked
--   then for each write: status, with a body of its own that, with an idempotency key its record, state and queue of the
--   target, and the state of each affected resource with the list of what affects it
-- ARGV: token, message, channel, caps
--   then for each write: id, flags, digest, principal, size, what its status says of it, with an idempotency key its
--   fingerprint, and the element of the target's list and of each affected one
-- The flags are 0 or 1: has a body of its own, has an idempotency key, shared, chained. Behind them: how many resources.
-- Returns for each write its number, 0 when it was there already, or {verdict, detail, number}
local seq_key, queue, due, bytes = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local principals, blocked = KEYS[5], KEYS[6]
local token, message, channel = ARGV[1], ARGV[2], ARGV[3]
local max_writes, max_bytes, max_resource = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local max_resource_bytes, max_principal = tonumber(ARGV[7]), tonumber(ARGV[8])
local FIRST_KEY, FIRST_ARGUMENT, ARGUMENTS = 7, 9, 6

local now = now_ms()
-- What the partition has pending, counted once for all of them: writes, dead ones that hold back others, and octets.
local waiting_writes, dead_writes, held_bytes = redis.call('ZCARD', queue), redis.call('HLEN', blocked), nil
local newest, more_bytes = nil, 0
-- What goes into the queue, and what is due, as scores and members.
local queued, dues = {}, {}
-- Pending writes by principal, and how many of them are accepted now.
local pending_of, more_of = {}, {}
-- States as they are to be, by their keys: what their texts have before what counts the pending writes, and these counts.
local states = {}

local function state_at(first)
  local state = states[KEYS[first]]
  if state then return state end
  local before, pending, octets = string.match(redis.call('GET', KEYS[first]) or '', '^([^|]*|%d+|%d+|)(%d+)|(%d+)$')
  return before and {before = before, pending = pending, octets = octets}
end

-- Count one more pending at a resource, and make a state of one that has none; `own` and `octets` of the resource itself,
-- if it is that.
local function note_pending(first, state, own, octets)
  if state then
    state.pending, state.octets = state.pending + 1, octets or state.octets
    states[KEYS[first]] = state
  else
    redis.call('SET', KEYS[first], state_text({token = token, trimmed = 0, landed = 0, octets = octets}, own or 1))
  end
end

local function accept(key, at)
  local status, id, flags, digest, principal = KEYS[key], ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local size, count, element = tonumber(ARGV[at + 4]), string.sub(flags, 5), at + ARGUMENTS
  local body, idempotency, fingerprint, target = nil, nil, nil, key + 1
  if string.sub(flags, 1, 1) == '1' then body, target = KEYS[target], target + 1 end
  if string.sub(flags, 2, 2) == '1' then
    idempotency, target = KEYS[target], target + 1
    fingerprint, element = ARGV[element], element + 1
  end

  if redis.call('EXISTS', status) == 1 then
    -- The repeated call has stored the body again, with a lifetime.
    if body and redis.call('HGET', status, 'state') == 'pending' then redis.call('PERSIST', body) end
    go_on_at_full_memory(queue)
    redis.call('HINCRBY', status, 'repeats', 1)
    return 0
  end
  local known = idempotency and redis.call('GET', idempotency)
  if known then
    local known_id, known_as = string.match(known, '^([^|]*)|(.*)$')
    if fingerprint ~= known_as then return {'mismatch', known_id, 0} end
    go_on_at_full_memory(queue)
    redis.call('SET', idempotency, known, 'KEEPTTL')
    return {'known', known_id, 0}
  end

  -- All of this is read before anything is written: a key of another type among these leaves nothing half done.
  local target_queue = KEYS[target + 1]
  local own = redis.call('ZCARD', target_queue)
  local is_blocked = dead_writes > 0 and redis.call('HEXISTS', blocked, digest) == 1
  local before_it = own + (is_blocked and 1 or 0)
  held_bytes = held_bytes or tonumber(redis.call('GET', bytes) or '0')
  -- A blocked resource holds a dead write that waits for an operator: it takes a place too.
  if waiting_writes + dead_writes >= max_writes then return {'full', 'writes', before_it} end
  if held_bytes + more_bytes + size > max_bytes then return {'full', 'bytes', before_it} end
  if own >= max_resource then return {'full', 'resource', before_it} end
  local theirs = pending_of[principal] or tonumber(redis.call('HGET', principals, principal) or '0')
  if theirs >= max_principal then return {'full', 'principal', before_it} end
  if body and redis.call('EXISTS', body) == 0 then return {'no-body', id, 0} end
  local seq = (newest or tonumber(redis.call('GET', seq_key) or '0')) + 1
  local state, states_affected = state_at(target), nil
  if count ~= '1' then
    states_affected = {}
    for i = 1, count - 1 do states_affected[i] = state_at(target + 2 * i) end
  end
  local held = own > 0 and state and tonumber(state.octets) or 0
  if held > 0 and held + size > max_resource_bytes then return {'full', 'resource', before_it} end
  local before = own > 0 and string.sub(flags, 4, 4) == '1' and redis.call('ZREVRANGE', target_queue, 0, 0, 'WITHSCORES')[2]

  local shared = string.sub(flags, 3, 3)
  -- The first change is one that full memory refuses.
  redis.call('ZADD', target_queue, seq, ARGV[element])
  if body then redis.call('PERSIST', body) end
  pending_of[principal], more_of[principal] = theirs + 1, (more_of[principal] or 0) + 1
  newest, more_bytes, waiting_writes = seq, more_bytes + size, waiting_writes + 1
  queued[#queued + 1], queued[#queued + 2] = seq, numbered(seq, id)
  note_pending(target, state, own + 1, held + size)
  for i = 1, count - 1 do
    local affected = target + 2 * i
    add_affected(KEYS[affected + 1], shared, principal, seq, ARGV[element + i])
    note_pending(affected, states_affected[i])
  end
  -- Without a lifetime until the write has settled: it may not be evicted before.
  if idempotency then redis.call('SET', idempotency, id .. '|' .. fingerprint) end
  redis.call('HSET', status, 'state', 'pending', 'seq', seq, 'accepted', now, 'tries', 0, 'principal', principal,
    'size', size, 'body', body and '1' or '0', 'shared', shared, 'about', ARGV[at + 5])
  if before then redis.call('HSET', status, 'after', before) end
  if not is_blocked then dues[#dues + 1], dues[#dues + 2] = now, digest end
  return seq
end

local function note_together()
  if newest then
    redis.call('SET', seq_key, newest)
    redis.call('ZADD', queue, unpack(queued))
  end
  if #dues > 0 and redis.call('ZADD', due, 'NX', unpack(dues)) > 0 then redis.call('PUBLISH', channel, message) end
  for key, state in pairs(states) do redis.call('SET', key, state.before .. state.pending .. '|' .. state.octets) end
  if more_bytes > 0 then redis.call('INCRBY', bytes, more_bytes) end
  for principal, more in pairs(more_of) do redis.call('HINCRBY', principals, principal, more) end
end

local answers = {}
local key, at = FIRST_KEY, FIRST_ARGUMENT
while at <= #ARGV do
  local is_well, answer = pcall(accept, key, at)
  if not is_well then
    local text = type(answer) == 'table' and answer.err or tostring(answer)
    answer = redis.error_reply(text)
    -- A server that takes no writes now takes none of these.
    if string.sub(text, 1, 9) ~= 'WRONGTYPE' then
      note_together()
      return answer
    end
  end
  answers[#answers + 1] = answer
  local flags = ARGV[at + 1]
  local count, has_key = string.sub(flags, 5), string.sub(flags, 2, 2)
  key = key + 1 + 2 * count + string.sub(flags, 1, 1) + has_key
  at = at + ARGUMENTS + count + has_key
end
note_together()
return answers

-- End the head write of a claimed resource. It begins with removals, so that it works at full memory.
-- KEYS: lease, due, queue, processed, bytes, seq, status, body, out, principals, then the target and each affected resource
-- ARGV: see aiohttp_regioncache/store/queue.py
local lease, due, queue, processed, bytes = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local seq_key, status, body, out, principals = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local fence, digest, seq, id, outcome = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local token, status_ms, state_ms = ARGV[6], ARGV[7], ARGV[8]
local landed_ms, landed_count = ARGV[9], tonumber(ARGV[10])
local lease_ms, channel, message = tonumber(ARGV[11]), ARGV[12], ARGV[13]
local announcement, out_length, keep_record, first_field = ARGV[14], ARGV[15], ARGV[16] == '1', 17

local target = resource(11)
local function ended_before()
  return redis.call('HGET', status, 'fence') == fence and 'already' or nil
end
local owner = redis.call('HGET', lease, digest)
if not owner or string.match(owner, '^(.*)|%d+$') ~= fence then return {ended_before() or 'lost', 0} end
local head = redis.call('ZRANGE', target.queue, 0, 0, 'WITHSCORES')
if not head[1] or tonumber(head[2]) ~= seq then
  return {ended_before() or 'not-head', redis.call('ZCARD', target.queue)}
end

redis.call('ZREM', queue, string.format('%016d|%s', seq, id))
redis.call('ZREM', target.queue, head[1])
local elements = {head[1]}
for at = 15, #KEYS, 4 do
  local keys = resource(at)
  local element = redis.call('ZRANGEBYSCORE', keys.affected, seq, seq)[1]
  -- Once it has landed everybody sees it: it is listed without its principal.
  elements[#elements + 1] = element and without_principal(element) or false
  redis.call('ZREMRANGEBYSCORE', keys.affected, seq, seq)
end
if keep_record then redis.call('PEXPIRE', body, status_ms) else redis.call('DEL', body) end
local counted = redis.call('HMGET', status, 'size', 'principal')
local principal = counted[2] or ''
redis.call('DECRBY', bytes, counted[1] or 0)
if redis.call('HINCRBY', principals, principal, -1) <= 0 then redis.call('HDEL', principals, principal) end

local now = now_ms()
local number = outcome == 'synced' and redis.call('INCR', seq_key) or 0
for i, element in ipairs(elements) do
  local keys = resource(7 + 4 * i)
  local state, minted = read_or_mint_state(keys, token)
  if minted then redis.call('DEL', keys.landed) end
  if outcome ~= 'synced' then
    state.token = token
  elseif element then
    -- Landed writes that are missing were evicted: a base that lacks them is of no use any more.
    if state.landed > state.trimmed and redis.call('EXISTS', keys.landed) == 0 then state.trimmed = state.landed end
    redis.call('ZADD', keys.landed, number, string.format('%013d', now) .. element)
    redis.call('PEXPIRE', keys.landed, landed_ms)
    state.landed = number
    local surplus = redis.call('ZCARD', keys.landed) - landed_count
    if surplus > 0 then
      local oldest = redis.call('ZRANGE', keys.landed, surplus - 1, surplus - 1, 'WITHSCORES')
      state.trimmed = math.max(state.trimmed, tonumber(oldest[2]))
      redis.call('ZREMRANGEBYRANK', keys.landed, 0, surplus - 1)
    end
  end
  write_state(keys, state, state_ms)
end
if announcement ~= '' then redis.call('XADD', out, 'MAXLEN', '~', out_length, '*', 'i', announcement) end

local first = redis.call('ZRANGE', queue, 0, 0)[1]
redis.call('SET', processed, first and tonumber(string.sub(first, 1, 16)) - 1 or redis.call('GET', seq_key))
redis.call('HSET', status, 'state', outcome, 'fence', fence, 'settled', now, unpack(ARGV, first_field))
redis.call('HINCRBY', status, 'tries', 1)
if keep_record then redis.call('HSET', status, 'record', head[1]) end
redis.call('PEXPIRE', status, status_ms)

local left = redis.call('ZCARD', target.queue)
if left == 0 then
  redis.call('ZREM', due, digest)
  redis.call('HDEL', lease, digest)
else
  redis.call('ZADD', due, 'XX', now + lease_ms, digest)
  redis.call('HSET', lease, digest, fence .. '|0')
end
redis.call('PUBLISH', channel, message)
return {'settled', left}

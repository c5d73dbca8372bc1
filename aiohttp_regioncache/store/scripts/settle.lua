-- End a write of a claimed resource: the head, or with `anywhere` any. It begins with removals, so that it works at full memory.
-- KEYS: lease, due, queue, processed, bytes, seq, status, body, out, principals, sizes, blocked, ended, idempotency, then the target and each affected resource
-- ARGV: see aiohttp_regioncache/store/queue.py
local lease, due, queue, processed, bytes = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local seq_key, status, body, out, principals = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local sizes, blocked, ended, idempotency, first_resource = KEYS[11], KEYS[12], KEYS[13], KEYS[14], 15
local fence, digest, seq, id, outcome = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local token, status_ms, state_ms = ARGV[6], ARGV[7], ARGV[8]
local landed_ms, landed_count, holdoff = ARGV[9], tonumber(ARGV[10]), tonumber(ARGV[11])
local lease_ms, channel, message = tonumber(ARGV[12]), ARGV[13], ARGV[14]
local announcement, out_length = ARGV[15], ARGV[16]
local keep_record, blocks, anywhere, attempted = ARGV[17] == '1', ARGV[18] == '1', ARGV[19] == '1', ARGV[20]
local ended_length, known_ms, first_field = tonumber(ARGV[21]), ARGV[22], 23

local target = resource(first_resource)
local function ended_before()
  return redis.call('HGET', status, 'fence') == fence and redis.call('HGET', status, 'state') ~= 'pending' and 'already' or nil
end
local owner, stalls = string.match(redis.call('HGET', lease, digest) or '', '^(.*)|(%d+)$')
if owner ~= fence then return {ended_before() or 'lost', 0} end
local head
if anywhere then
  head = redis.call('ZRANGEBYSCORE', target.queue, seq, seq, 'WITHSCORES')
else
  head = redis.call('ZRANGE', target.queue, 0, 0, 'WITHSCORES')
end
if not head[1] or tonumber(head[2]) ~= seq then
  return {ended_before() or 'not-head', redis.call('ZCARD', target.queue)}
end

redis.call('ZREM', queue, numbered(seq, id))
-- What stands before it may be what a sender vanished over: that stays in mind.
if redis.call('ZRANGE', target.queue, 0, 0)[1] == head[1] then stalls = 0 end
redis.call('ZREM', target.queue, head[1])
local listed, elements = {head[1]}, {without_tags(head[1])}
for at = first_resource + 4, #KEYS, 4 do
  local keys = resource(at)
  local element = redis.call('ZRANGEBYSCORE', keys.affected, seq, seq)[1]
  listed[#listed + 1] = element or ''
  -- Once it has landed everybody sees it: it is listed without its tags.
  elements[#elements + 1] = element and without_tags(element) or false
  redis.call('ZREMRANGEBYSCORE', keys.affected, seq, seq)
end
if not keep_record then redis.call('DEL', body) elseif not blocks then redis.call('PEXPIRE', body, status_ms) end
local counted = redis.call('HMGET', status, 'size', 'principal')
count_pending(bytes, sizes, principals, digest, counted[2] or '', tonumber(counted[1] or 0), -1)

local now = now_ms()
local number = outcome == 'synced' and redis.call('INCR', seq_key) or 0
for i, element in ipairs(elements) do
  local keys = resource(first_resource + 4 * (i - 1))
  local state, minted = read_or_mint_state(keys, token)
  if minted then redis.call('DEL', keys.landed) end
  if outcome == 'synced' and element then
    -- Landed writes that are missing were evicted: a base that lacks them is of no use any more.
    if state.landed > state.trimmed and redis.call('EXISTS', keys.landed) == 0 then state.trimmed = state.landed end
    redis.call('ZADD', keys.landed, number, string.format('%013d', now) .. element)
    redis.call('PEXPIRE', keys.landed, landed_ms)
    state.landed = number
    local surplus = redis.call('ZCARD', keys.landed) - landed_count
    if surplus > 0 then
      local oldest = redis.call('ZRANGE', keys.landed, surplus - 1, surplus - 1, 'WITHSCORES')
      state.trimmed = math.max(state.trimmed, tonumber(oldest[2]))
      -- A fetch from a lagging reader must not count as one that contains it.
      if tonumber(string.sub(oldest[1], 1, 13)) > now - holdoff then state.token = dated(token) end
      redis.call('ZREMRANGEBYRANK', keys.landed, 0, surplus - 1)
    end
  elseif outcome ~= 'synced' and outcome ~= 'superseded' then
    state.token = dated(token)
  end
  write_state(keys, state, state_ms)
end
if announcement ~= '' then redis.call('XADD', out, 'MAXLEN', '~', out_length, '*', 'i', announcement) end

move_watermark(processed, queue, seq_key)
redis.call('HSET', status, 'state', outcome, 'fence', fence, 'settled', now, unpack(ARGV, first_field))
redis.call('HINCRBY', status, 'tries', attempted)
if keep_record then
  redis.call('HSET', status, 'record', listed[1])
  for i = 2, #listed do redis.call('HSET', status, 'copy' .. (i - 1), listed[i]) end
  redis.call('ZADD', ended, now, id)
  redis.call('ZREMRANGEBYRANK', ended, 0, -1 - ended_length)
end
if not blocks then redis.call('PEXPIRE', status, status_ms) end
redis.call('PEXPIRE', idempotency, known_ms)

local left = redis.call('ZCARD', target.queue)
if blocks then redis.call('HSET', blocked, digest, id) end
if left == 0 or blocks then
  redis.call('ZREM', due, digest)
  redis.call('HDEL', lease, digest)
  left = 0
else
  redis.call('ZADD', due, 'XX', now + lease_ms, digest)
  redis.call('HSET', lease, digest, string.format('%s|%d', fence, stalls))
end
redis.call('PUBLISH', channel, message)
return {'settled', left}

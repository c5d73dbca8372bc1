-- End writes of claimed resources, one after another: of each resource the head, or with `anywhere` any. Each begins with
-- removals, so that it works at full memory. What is wrong with the keys of one keeps no other from ending. All that have
-- ended are announced in one message.
-- KEYS: lease, due, queue, processed, bytes, seq, out, principals, sizes, blocked, dead, rejected
--   then for each write: status, body, idempotency, and the keys of the target and each affected resource
-- ARGV: see aiohttp_regioncache/store/queue.py   Returns for each write {what became of it, how many may go on after it}
local lease, due, queue, processed, bytes, seq_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local out, principals, sizes, blocked = KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local ended = {dead = KEYS[11], rejected = KEYS[12]}
local token, state_ms, landed_ms, landed_count = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local holdoff, lease_ms, channel, partition = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7], ARGV[8]
local out_length, ended_length = ARGV[9], tonumber(ARGV[10])

local now = now_ms()
local has_written, announced = false, {}

local function settle(first_key, last_key, at, last_argument)
  local status, body, idempotency, first_resource = KEYS[first_key], KEYS[first_key + 1], KEYS[first_key + 2], first_key + 3
  local fence, digest, seq, id, outcome = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), ARGV[at + 3], ARGV[at + 4]
  local status_ms, known_ms, names, announcement = ARGV[at + 5], ARGV[at + 6], ARGV[at + 7], ARGV[at + 8]
  local keep_record, blocks, anywhere = ARGV[at + 9] == '1', ARGV[at + 10] == '1', ARGV[at + 11] == '1'
  local attempted, first_field = ARGV[at + 12], at + 13

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
  has_written = true
  -- What stands before it may be what a sender vanished over: that stays in mind.
  if not anywhere or redis.call('ZRANGE', target.queue, 0, 0)[1] == head[1] then stalls = 0 end
  redis.call('ZREM', target.queue, head[1])
  local listed, elements = {head[1]}, {without_tags(head[1])}
  for key = first_resource + 4, last_key, 4 do
    local keys = resource(key)
    local element = redis.call('ZRANGEBYSCORE', keys.affected, seq, seq)[1]
    listed[#listed + 1] = element or ''
    -- Once it has landed everybody sees it: it is listed without its tags.
    elements[#elements + 1] = element and without_tags(element) or false
    redis.call('ZREMRANGEBYSCORE', keys.affected, seq, seq)
  end
  if not keep_record then redis.call('DEL', body) elseif not blocks then redis.call('PEXPIRE', body, status_ms) end
  local counted = redis.call('HMGET', status, 'size', 'principal')
  count_pending(bytes, sizes, principals, digest, counted[2] or '', tonumber(counted[1] or 0), -1)

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

  redis.call('HSET', status, 'state', outcome, 'fence', fence, 'settled', now, unpack(ARGV, first_field, last_argument))
  redis.call('HINCRBY', status, 'tries', attempted)
  if keep_record then
    redis.call('HSET', status, 'record', listed[1])
    for i = 2, #listed do redis.call('HSET', status, 'copy' .. (i - 1), listed[i]) end
    redis.call('ZADD', ended[outcome], now, id)
    redis.call('ZREMRANGEBYRANK', ended[outcome], 0, -1 - ended_length)
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
  announced[#announced + 1] = names
  return {'settled', left}
end

local answers, key, at = {}, 13, 11
while key <= #KEYS do
  local resources, fields = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local last_key, last_argument = key + 2 + 4 * resources, at + 14 + fields
  local is_well, answer = pcall(settle, key, last_key, at + 2, last_argument)
  if not is_well then
    local text = type(answer) == 'table' and answer.err or tostring(answer)
    -- A server that takes no writes now takes none of these.
    if not has_written and string.sub(text, 1, 9) ~= 'WRONGTYPE' then error(answer) end
    answer = {err = text}
  end
  answers[#answers + 1] = answer
  key, at = last_key + 1, last_argument + 1
end
if has_written then move_watermark(processed, queue, seq_key) end
if announced[1] then redis.call('PUBLISH', channel, partition .. ' ' .. table.concat(announced, ' ')) end
return answers

-- End writes of claimed resources, one after another: of each resource the head, or with `anywhere` any. The first change
-- is a removal, so that it works at full memory. What is wrong with the keys of one keeps no other from ending. What is
-- kept of the partition changes once for all of them, and all that have ended are announced in one message.
-- KEYS: lease, due, queue, processed, bytes, seq, out, principals, blocked, dead, rejected
--   then for each write: status, body, idempotency, and the keys of the target and each affected resource
-- ARGV: see aiohttp_regioncache/store/queue.py   Returns for each write {what became of it, how many may go on after it}
local lease, due, queue, processed, bytes, seq_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local out, principals, blocked = KEYS[7], KEYS[8], KEYS[9]
local ended = {dead = KEYS[10], rejected = KEYS[11]}
local token, state_ms, landed_ms, landed_count = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local holdoff, lease_ms, channel, partition = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7], ARGV[8]
local out_length, ended_length = ARGV[9], tonumber(ARGV[10])

local now = now_ms()
local writes, digests = {}, {}
local key, at = 12, 11
while key <= #KEYS do
  local write = {key = key, last_key = key + 2 + 4 * ARGV[at], at = at + 2, last = at + 14 + ARGV[at + 1]}
  writes[#writes + 1] = write
  write.number = #writes
  digests[#digests + 1] = ARGV[write.at + 1]
  key, at = write.last_key + 1, write.last + 1
end
local leases = {}
for i, held in ipairs(redis.call('HMGET', lease, unpack(digests))) do leases[digests[i]] = held end

-- What the partition's keys lose, and the number of the newest landing when there is one.
local unqueued, given_back, announced = {}, {}, {}
local freed, fewer, newest = 0, {}, nil
-- What changes of resources, by the keys of their states: a parent path that all of them affect is read and written once.
local changes = {}

local function change_of(keys, number)
  local change = changes[keys.state]
  if not change then
    change = {keys = keys, state = read_or_mint_state(keys, token), lands = false, numbers = {}}
    changes[keys.state] = change
  end
  change.numbers[#change.numbers + 1] = number
  return change
end

local function land(change, element)
  local keys, state = change.keys, change.state
  -- Landed writes that are missing were evicted: a base that lacks them is of no use any more.
  if not change.lands and state.landed > state.trimmed and redis.call('EXISTS', keys.landed) == 0 then
    state.trimmed = state.landed
  end
  if state.landed == 0 then redis.call('DEL', keys.landed) end
  redis.call('ZADD', keys.landed, newest, string.format('%013d', now) .. element)
  state.landed, change.lands = newest, true
end

local function write_change(change)
  local keys, state = change.keys, change.state
  if change.lands then
    redis.call('PEXPIRE', keys.landed, landed_ms)
    local surplus = redis.call('ZCARD', keys.landed) - landed_count
    if surplus > 0 then
      local oldest = redis.call('ZRANGE', keys.landed, surplus - 1, surplus - 1, 'WITHSCORES')
      state.trimmed = math.max(state.trimmed, tonumber(oldest[2]))
      -- A fetch from a lagging reader must not count as one that contains it.
      if tonumber(string.sub(oldest[1], 1, 13)) > now - holdoff then state.token = dated(token) end
      redis.call('ZREMRANGEBYRANK', keys.landed, 0, surplus - 1)
    end
  end
  write_state(keys, state, state_ms, change.own)
end

local function settle(write)
  local status, body, idempotency = KEYS[write.key], KEYS[write.key + 1], KEYS[write.key + 2]
  local first_resource, last_key, at = write.key + 3, write.last_key, write.at
  local fence, digest, seq, id, outcome = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), ARGV[at + 3], ARGV[at + 4]
  local status_ms, known_ms, names, announcement = ARGV[at + 5], ARGV[at + 6], ARGV[at + 7], ARGV[at + 8]
  local keep_record, blocks, anywhere = ARGV[at + 9] == '1', ARGV[at + 10] == '1', ARGV[at + 11] == '1'
  local attempted, first_field = tonumber(ARGV[at + 12]), at + 13

  local target = resource(first_resource)
  local function ended_before()
    return redis.call('HGET', status, 'fence') == fence and redis.call('HGET', status, 'state') ~= 'pending' and 'already' or nil
  end
  local owner, stalls = string.match(leases[digest] or '', '^(.*)|(%d+)$')
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

  -- What stands before it may be what a sender vanished over: that stays in mind.
  if not anywhere or redis.call('ZRANGE', target.queue, 0, 0)[1] == head[1] then stalls = 0 end
  redis.call('ZREM', target.queue, head[1])
  unqueued[#unqueued + 1] = numbered(seq, id)
  local known = redis.call('HMGET', status, 'size', 'principal', 'tries', 'body', 'shared')
  local listed, elements = {head[1]}, {without_tags(head[1])}
  for key = first_resource + 4, last_key, 4 do
    local element = take_affected(resource(key).affected, known[5], known[2] or '', seq)
    listed[#listed + 1] = element or ''
    -- Once it has landed everybody sees it: it is listed without its tags.
    elements[#elements + 1] = element and without_tags(element) or false
  end
  if known[4] ~= '0' then -- it may have a body of its own
    if not keep_record then redis.call('DEL', body) elseif not blocks then redis.call('PEXPIRE', body, status_ms) end
  end
  local left = redis.call('ZCARD', target.queue)
  local size, principal = tonumber(known[1] or 0), known[2] or ''
  freed = freed + size
  fewer[principal] = (fewer[principal] or 0) + 1

  if outcome == 'synced' then newest = (newest or tonumber(redis.call('GET', seq_key) or 0)) + 1 end
  for i, element in ipairs(elements) do
    local change = change_of(resource(first_resource + 4 * (i - 1)), write.number)
    local state = change.state
    if outcome == 'synced' and element then
      land(change, element)
    elseif outcome ~= 'synced' and outcome ~= 'superseded' then
      state.token = dated(token)
    end
    if i == 1 then
      change.own, state.octets = left, left > 0 and math.max(0, (state.octets or 0) - size) or 0
    end
  end
  if announcement ~= '' then redis.call('XADD', out, 'MAXLEN', '~', out_length, '*', 'i', announcement) end

  redis.call('HSET', status, 'state', outcome, 'fence', fence, 'settled', now, 'tries', tonumber(known[3] or 0) + attempted,
    unpack(ARGV, first_field, write.last))
  if keep_record then
    redis.call('HSET', status, 'record', listed[1])
    for i = 2, #listed do redis.call('HSET', status, 'copy' .. (i - 1), listed[i]) end
    redis.call('ZADD', ended[outcome], now, id)
    redis.call('ZREMRANGEBYRANK', ended[outcome], 0, -1 - ended_length)
  end
  if not blocks then redis.call('PEXPIRE', status, status_ms) end
  if known_ms ~= '' then redis.call('PEXPIRE', idempotency, known_ms) end

  if blocks then redis.call('HSET', blocked, digest, id) end
  if left == 0 or blocks then
    given_back[#given_back + 1] = digest
    leases[digest] = nil
    left = 0
  else
    leases[digest] = string.format('%s|%d', fence, stalls)
    redis.call('ZADD', due, 'XX', now + lease_ms, digest)
    redis.call('HSET', lease, digest, leases[digest])
  end
  announced[#announced + 1] = names
  return {'settled', left}
end

local function refusal(problem)
  return redis.error_reply(type(problem) == 'table' and problem.err or tostring(problem))
end

local answers = {}
for i, write in ipairs(writes) do
  local is_well, answer = pcall(settle, write)
  if not is_well then
    answer = refusal(answer)
    -- A server that takes no writes now takes none of these.
    if #unqueued == 0 and string.sub(answer.err, 1, 9) ~= 'WRONGTYPE' then return answer end
  end
  answers[i] = answer
end
if #unqueued == 0 then return answers end

-- All that it comes of have ended; each is told of what went wrong.
for _, change in pairs(changes) do
  local is_well, answer = pcall(write_change, change)
  if not is_well then
    for _, number in ipairs(change.numbers) do answers[number] = refusal(answer) end
  end
end
redis.call('ZREM', queue, unpack(unqueued))
redis.call('DECRBY', bytes, freed)
for principal, count in pairs(fewer) do
  if redis.call('HINCRBY', principals, principal, -count) <= 0 then redis.call('HDEL', principals, principal) end
end
if #given_back > 0 then
  redis.call('ZREM', due, unpack(given_back))
  redis.call('HDEL', lease, unpack(given_back))
end
if newest then redis.call('SET', seq_key, newest) end
move_watermark(processed, queue, seq_key)
if #announced > 0 then redis.call('PUBLISH', channel, partition .. ' ' .. table.concat(announced, ' ')) end
return answers

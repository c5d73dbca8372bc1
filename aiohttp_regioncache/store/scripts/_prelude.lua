-- Stands before every script. A resource is four keys in a row: state, queue, affected, landed.
-- A state is the text `token|trimmed|landed|pending|octets`, those of the pending writes to the resource itself.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- At full memory Redis refuses what may grow, unless the script has written already; this writes nothing.
-- `key` never has a lifetime.
local function go_on_at_full_memory(key)
  redis.call('PERSIST', key)
end

local function resource(at)
  return {state = KEYS[at], queue = KEYS[at + 1], affected = KEYS[at + 2], landed = KEYS[at + 3]}
end

local function read_state(keys)
  local raw = redis.call('GET', keys.state)
  if not raw then return nil end
  local token, trimmed, landed, octets = string.match(raw, '^([^|]*)|(%d+)|(%d+)|%d+|(%d+)$')
  if not token then return nil end
  return {token = token, trimmed = tonumber(trimmed), landed = tonumber(landed), octets = tonumber(octets)}
end

local function state_text(state, pending)
  return string.format('%s|%d|%d|%d|%d', state.token, state.trimmed, state.landed, pending, state.octets or 0)
end

-- Pending writes keep their state; a clean one carries a lifetime and may be evicted. `own`: how many it has itself, if known.
local function write_state(keys, state, lifetime, own)
  local pending = (own or redis.call('ZCARD', keys.queue)) + redis.call('ZCARD', keys.affected)
  if pending > 0 then
    redis.call('SET', keys.state, state_text(state, pending))
  else
    redis.call('SET', keys.state, state_text(state, pending), 'PX', lifetime)
  end
end

-- The state of a resource, made when nothing is known of it. What is listed as landed while nothing has landed by the
-- state (0) landed by one that is forgotten: it says nothing any more, and goes when something lands.
local function read_or_mint_state(keys, token)
  local state = read_state(keys)
  if state then return state, false end
  return {token = token, trimmed = 0, landed = 0}, true
end

-- The token that follows one of another run of the server. Every fetch of the present run comes to the same, and none of
-- an earlier run does, not even when that run comes back.
local function renewed(token, run)
  if string.sub(token, 1, #run) == run then return token end
  return run .. '.' .. string.sub(redis.sha1hex(token .. run), 1, 16) .. (string.match(token, '@%d+$') or '')
end

-- The record in an element of a list of pending writes.
local function without_tags(element)
  return string.sub(element, (string.find(element, '\n', 1, true) or 0) + 1)
end

-- Before each record in a list of pending writes stands a line that says who sees it, whether it needs no base, and
-- for which URL: `shared principal A|R url`. Nil for what no version wrote: it may be anybody's.
local function tagged(element)
  return string.match(element, '^([01]) (%S+) ([AR]) (%x+)\n')
end

-- The pending writes of others that affect a resource stand in one list by who sees them, and then by their number: a
-- reader finds those that it sees at once, however many there are. What comes before each element, for one who sees it:
local function seen_by(shared, principal)
  return shared == '1' and '1 ' or '0 ' .. principal .. ' '
end

local function among_affected(shared, principal, seq)
  return seen_by(shared, principal) .. string.format('%016d|', seq)
end

local function add_affected(affected, shared, principal, seq, element)
  redis.call('ZADD', affected, 0, among_affected(shared, principal, seq) .. element)
end

-- Take a write out of such a list; returns its element.
local function take_affected(affected, shared, principal, seq)
  local before = among_affected(shared, principal, seq)
  local member = redis.call('ZRANGEBYLEX', affected, '[' .. before, '[' .. before .. '\255', 'LIMIT', 0, 1)[1]
  if not member then return nil end
  redis.call('ZREM', affected, member)
  return string.sub(member, #before + 1)
end

-- The member of the list of unsettled writes.
local function numbered(seq, id)
  return string.format('%016d|%s', seq, id)
end

-- Every write up to the watermark is settled.
local function move_watermark(processed, queue, seq_key)
  local first = redis.call('ZRANGE', queue, 0, 0)[1]
  redis.call('SET', processed, first and tonumber(string.sub(first, 1, 16)) - 1 or redis.call('GET', seq_key) or 0)
end

-- A token with the time of the change that made it: for origins whose readers lag behind their writers.
local function dated(token)
  return string.format('%s@%d', token, now_ms())
end

-- The number of the newest purge: milliseconds, growing. When it or the line that has it is not there, purges may have been
-- forgotten: then a line `*` covers everything that has been stored until now.
local function newest_purge(number_key, lines_key)
  local number = tonumber(redis.call('GET', number_key) or nil)
  local listed = tonumber(redis.call('ZREVRANGE', lines_key, 0, 0, 'WITHSCORES')[2])
  if number and number == listed then return number end
  number = math.max(now_ms(), (number or 0) + 1, (listed or 0) + 1)
  redis.call('SET', number_key, string.format('%d', number))
  redis.call('ZADD', lines_key, number, '*')
  return number
end

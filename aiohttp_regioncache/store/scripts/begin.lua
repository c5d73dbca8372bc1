-- What a fetch remembers before it asks the origin: the token, made if missing, and the landing number it will contain.
-- KEYS: state, queue, affected, landed   ARGV: token, its run mark, hold-off in ms, state lifetime in ms
local keys, run = resource(1), ARGV[2]
local state, minted = read_or_mint_state(keys, ARGV[1])
-- Another run of the server made this token: it may have forgotten invalidations since.
if string.sub(state.token, 1, #run) ~= run then state.token = ARGV[1] end
-- The first write is one that full memory refuses: reads do not grow it.
if state.token == ARGV[1] then write_state(keys, state, ARGV[4]) end
if minted then redis.call('DEL', keys.landed) end

local asof, holdoff = state.landed, tonumber(ARGV[3])
if holdoff > 0 and redis.call('EXISTS', keys.landed) == 1 then
  local limit = now_ms() - holdoff
  asof = state.trimmed
  local landed = redis.call('ZREVRANGE', keys.landed, 0, -1, 'WITHSCORES')
  for i = 1, #landed, 2 do
    if tonumber(string.sub(landed[i], 1, 13)) <= limit then
      asof = tonumber(landed[i + 1])
      break
    end
  end
end
return {state.token, asof}

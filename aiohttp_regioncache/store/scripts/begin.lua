-- What a fetch remembers before it asks the origin: the token, made if missing, the landing number it will contain, and the
-- newest purge.
-- Another run of the server may have forgotten invalidations of its token: the fetch gets the next one, and the state too
-- when it has succeeded. Until then what is stored stays what another run stored.
-- Returns an empty token when what is fetched now may lack a change that somebody told of: it is not to be stored.
-- KEYS: state, queue, affected, landed, purge, purges   ARGV: token, run mark, hold-off in ms, lifetime in ms of a state that is made
local keys = resource(1)
local state, minted = read_or_mint_state(keys, ARGV[1])
if minted then
  -- The first write is one that full memory refuses: reads do not grow it.
  write_state(keys, state, ARGV[4])
end

local purge = newest_purge(KEYS[5], KEYS[6])
local asof, holdoff = state.landed, tonumber(ARGV[3])
if holdoff > 0 then
  local limit = now_ms() - holdoff
  if redis.call('EXISTS', keys.landed) == 0 and state.landed > state.trimmed then
    -- Evicted: nobody knows when they landed.
    state.token, state.trimmed = dated(ARGV[1]), state.landed
    write_state(keys, state, ARGV[4])
  end
  local changed = tonumber(string.match(state.token, '@(%d+)$'))
  if changed and changed > limit then return {'', state.trimmed, purge} end
  -- Whatever it covers.
  if purge > limit and redis.call('ZREVRANGE', KEYS[6], 0, 0)[1] ~= '*' then return {'', state.trimmed, purge} end
  asof = state.trimmed
  local landed = state.landed > 0 and redis.call('ZREVRANGE', keys.landed, 0, -1, 'WITHSCORES') or {}
  for i = 1, #landed, 2 do
    if tonumber(string.sub(landed[i], 1, 13)) <= limit then
      asof = tonumber(landed[i + 1])
      break
    end
  end
end
return {renewed(state.token, ARGV[2]), asof, purge}

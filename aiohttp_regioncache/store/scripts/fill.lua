-- Store a fetched response if the resource is still in the state that was remembered (C1).
-- KEYS: entry, marker, state, queue, affected, landed
-- ARGV: token, asof, entry, its lifetime in ms, marker, state lifetime in ms, run mark
local keys, asof = resource(3), tonumber(ARGV[2])
local state = read_state(keys)
if not state or (state.token ~= ARGV[1] and renewed(state.token, ARGV[7]) ~= ARGV[1]) then return 'changed' end
if asof < state.trimmed then return 'older' end
state.token = ARGV[1]
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
if ARGV[5] ~= '' then redis.call('SET', KEYS[2], ARGV[5], 'PX', ARGV[4]) end
if asof > state.trimmed then
  redis.call('ZREMRANGEBYSCORE', keys.landed, '-inf', asof)
  state.trimmed = asof
end
write_state(keys, state, ARGV[6])
return 'stored'

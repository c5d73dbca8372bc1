-- Give resources new tokens, so that no entry of theirs is usable, and say so. Returns the first one's before and after.
-- KEYS: out, intents, then resources
-- ARGV: token, state lifetime in ms, channel, message, announcement or '', outbox length, intent or '', hold-off in ms
go_on_at_full_memory(KEYS[1])
local before, after = '', dated(ARGV[1])
for at = 3, #KEYS, 4 do
  local keys = resource(at)
  local state = read_state(keys)
  if at == 3 and state then before = state.token end
  if state then
    state.token = after
    write_state(keys, state, ARGV[2])
  elseif tonumber(ARGV[8]) > 0 then
    -- Nothing is stored; what a lagging reader gives within the hold-off shall not be, either.
    write_state(keys, {token = after, trimmed = 0, landed = 0}, 2 * tonumber(ARGV[8]))
  end
end
if ARGV[5] ~= '' then redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[6], '*', 'i', ARGV[5]) end
if ARGV[7] ~= '' then redis.call('ZREM', KEYS[2], ARGV[7]) end
redis.call('PUBLISH', ARGV[3], ARGV[4])
return {before, after}

-- Give resources new tokens, so that no entry of theirs is usable, and say so.
-- KEYS: out, then resources   ARGV: token, state lifetime in ms, channel, message, announcement or '', outbox length
go_on_at_full_memory(KEYS[1])
for at = 2, #KEYS, 4 do
  local keys = resource(at)
  local state = read_state(keys)
  if state then
    state.token = ARGV[1]
    write_state(keys, state, ARGV[2])
  end
end
if ARGV[5] ~= '' then redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[6], '*', 'i', ARGV[5]) end
redis.call('PUBLISH', ARGV[3], ARGV[4])
return 'invalidated'

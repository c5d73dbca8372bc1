-- Say that a site changed: in the region, and to the others through the outbox.
-- KEYS: out   ARGV: channel, message, announcement or '', outbox length
go_on_at_full_memory(KEYS[1])
if ARGV[3] ~= '' then redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[4], '*', 'i', ARGV[3]) end
redis.call('PUBLISH', ARGV[1], ARGV[2])
return 'told'

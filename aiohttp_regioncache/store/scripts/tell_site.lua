-- Say that a site changed: count it, tell the region, and the others through the outbox. The message is one that an
-- older listener takes for a change of nothing.
-- KEYS: out, site_changes   ARGV: channel, site id, hosts, announcement or '', outbox length
go_on_at_full_memory(KEYS[1])
if ARGV[4] ~= '' then redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[5], '*', 'i', ARGV[4]) end
local number = redis.call('INCR', KEYS[2])
redis.call('PUBLISH', ARGV[1], '0 @ ' .. ARGV[2] .. ' ' .. number .. ' ' .. ARGV[3])
return number

-- Note that there is a site. KEYS: sites   ARGV: id, revision
go_on_at_full_memory(KEYS[1])
redis.call('ZADD', KEYS[1], 'GT', ARGV[2], ARGV[1])
return 'noted'

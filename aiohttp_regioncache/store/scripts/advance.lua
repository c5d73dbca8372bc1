-- Note how far a region has heard. KEYS: cursors   ARGV: region, cursor
go_on_at_full_memory(KEYS[1])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 'noted'

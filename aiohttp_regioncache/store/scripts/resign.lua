-- Leave the carrying of a partition's invalidations to another. KEYS: courier   ARGV: name
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'lost' end
redis.call('DEL', KEYS[1])
return 'resigned'

-- Let a host belong to no site, if who has it is still the same. KEYS: domain   ARGV: `claim|id`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])

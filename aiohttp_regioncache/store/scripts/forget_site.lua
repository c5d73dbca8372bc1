-- Forget a site that is gone, unless it has a newer revision by now. KEYS: sites   ARGV: id, newest revision that is gone
local revision = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or nil)
if revision and revision <= tonumber(ARGV[2]) then redis.call('ZREM', KEYS[1], ARGV[1]) end
return 'forgotten'

-- Note what a write through is about to change. KEYS: intents   ARGV: intent, ms until somebody else looks after it
redis.call('ZADD', KEYS[1], now_ms() + tonumber(ARGV[2]), ARGV[1])
return 'noted'

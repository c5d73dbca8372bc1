-- Note purges: what they cover is usable only if it was asked for later. They have one number, newer than all before it.
-- A line that stands there already gets the new number. Old lines go: no entry lives as long. Of too many the oldest become
-- one that covers everything up to their number.
-- KEYS: purge, purges, out
-- ARGV: how long lines are kept in ms, how many, channel, message, announcement or '', outbox length, the lines
go_on_at_full_memory(KEYS[1])
local number = math.max(now_ms(), newest_purge(KEYS[1], KEYS[2]) + 1)
for i = 7, #ARGV do redis.call('ZADD', KEYS[2], number, ARGV[i]) end
redis.call('SET', KEYS[1], string.format('%d', number))
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('(%d', number - tonumber(ARGV[1])))
local surplus = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[2])
if surplus > 0 then
  local dropped = redis.call('ZRANGE', KEYS[2], surplus, surplus, 'WITHSCORES')
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, surplus)
  redis.call('ZADD', KEYS[2], 'GT', dropped[2], '*')
end
if ARGV[5] ~= '' then redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[6], '*', 'i', ARGV[5]) end
redis.call('PUBLISH', ARGV[3], ARGV[4])
return number

-- Read a resource that has pending or landed writes: entry, state and lists of one moment. Of the pending writes to other
-- resources, of which a parent may have very many, only the shared ones and those of the asking principals.
-- KEYS: entry, state, queue, affected, landed   ARGV: the asking principals
local patterns = {'1 *'}
for _, principal in ipairs(ARGV) do
  patterns[#patterns + 1] = '0 ' .. string.gsub(principal, '[%*%?%[%]\\]', '\\%0') .. '\n*'
end
-- Redis matches them itself: it gives a script a fraction of a hundred thousand elements much faster than all of them.
local seen, found = {}, {}
for _, pattern in ipairs(patterns) do
  local cursor = '0'
  repeat
    local page = redis.call('ZSCAN', KEYS[4], cursor, 'MATCH', pattern, 'COUNT', 10000)
    cursor = page[1]
    for i = 1, #page[2], 2 do
      local element, number = page[2][i], page[2][i + 1]
      if not found[number] then
        found[number] = true
        seen[#seen + 1] = without_principal(element)
        seen[#seen + 1] = number
      end
    end
  until cursor == '0'
end
return {
  redis.call('GET', KEYS[1]),
  redis.call('GET', KEYS[2]),
  redis.call('ZRANGE', KEYS[3], 0, -1, 'WITHSCORES'),
  seen,
  redis.call('ZRANGE', KEYS[5], 0, -1, 'WITHSCORES'),
}

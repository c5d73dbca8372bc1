-- Read a resource that has pending or landed writes: entry, state and lists of one moment. Of the pending writes only the
-- shared ones and those of the asking principals, and of these none before the last that needs no base.
-- KEYS: entry, state, queue, affected, landed, purge   ARGV: hash of the asked URL, how many own writes at most, the asking principals
-- Own writes beyond the limit come as one that cannot be read.
local url, limit = ARGV[1], tonumber(ARGV[2])
local asking = {}
for i = 3, #ARGV do asking[ARGV[i]] = true end

local own, from, offset = {}, '-inf', 0
local function take_page()
  local page = redis.call('ZREVRANGE', KEYS[3], offset, offset + 63, 'WITHSCORES')
  offset = offset + 64
  for i = 1, #page, 2 do
    local shared, principal, kind, of = tagged(page[i])
    if not shared or shared == '1' or asking[principal] then
      if #own >= 2 * limit then
        own[#own + 1] = ''
        own[#own + 1] = page[i + 1]
        return false
      end
      own[#own + 1] = without_tags(page[i])
      own[#own + 1] = page[i + 1]
      if kind == 'A' and of == url then
        from = tonumber(page[i + 1])
        return false
      end
    end
  end
  return #page == 128
end
while take_page() do end

-- Redis matches patterns itself: it gives a script a fraction of a hundred thousand elements much faster than all of them.
local seen, found = {}, {}
if redis.call('EXISTS', KEYS[4]) == 1 then
  local patterns = {'1 *'}
  for principal in pairs(asking) do
    patterns[#patterns + 1] = '0 ' .. string.gsub(principal, '[%*%?%[%]\\]', '\\%0') .. ' *'
  end
  for _, pattern in ipairs(patterns) do
    local cursor = '0'
    repeat
      local page = redis.call('ZSCAN', KEYS[4], cursor, 'MATCH', pattern, 'COUNT', 10000)
      cursor = page[1]
      for i = 1, #page[2], 2 do
        local element, number = page[2][i], page[2][i + 1]
        if not found[number] and (from == '-inf' or tonumber(number) > from) then
          found[number] = true
          seen[#seen + 1] = without_tags(element)
          seen[#seen + 1] = number
        end
      end
    until cursor == '0'
  end
end
return {
  redis.call('GET', KEYS[1]),
  redis.call('GET', KEYS[2]),
  own,
  seen,
  redis.call('ZRANGE', KEYS[5], 0, -1, 'WITHSCORES'),
  redis.call('GET', KEYS[6]),
}

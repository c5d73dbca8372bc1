-- Read a resource that has pending or landed writes: entry, state and lists of one moment. Of the pending writes only the
-- shared ones and those of the asking principals, and of these none before the last that needs no base.
-- KEYS: entry, state, queue, affected, landed, purge   ARGV: hash of the asked URL, how many writes at most, the asking principals
-- Writes beyond the limit, own ones and those of each who is seen, come as one that cannot be read.
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

local seen = {}
local function take_seen(before)
  local after = string.format('%016d', from == '-inf' and 0 or from + 1)
  local members = redis.call('ZRANGEBYLEX', KEYS[4], '[' .. before .. after, '(' .. before .. ':', 'LIMIT', 0, limit + 1)
  for i, member in ipairs(members) do
    seen[#seen + 1] = i > limit and '' or without_tags(member)
    seen[#seen + 1] = string.format('%d', tonumber(string.sub(member, #before + 1, #before + 16)))
  end
end
if redis.call('EXISTS', KEYS[4]) == 1 then
  take_seen(seen_by('1'))
  for principal in pairs(asking) do take_seen(seen_by('0', principal)) end
end
return {
  redis.call('GET', KEYS[1]),
  redis.call('GET', KEYS[2]),
  own,
  seen,
  redis.call('ZRANGE', KEYS[5], 0, -1, 'WITHSCORES'),
  redis.call('GET', KEYS[6]),
}

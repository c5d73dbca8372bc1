-- Let a host belong to a site, unless one with a newer claim has it. Returns who has it then, as `claim|id`.
-- KEYS: domain   ARGV: claim (a revision), id
local held = redis.call('GET', KEYS[1]) or ''
local claim, id = string.match(held, '^(%d+)|(.*)$')
local mine = ARGV[1] .. '|' .. ARGV[2]
if claim and id ~= ARGV[2] then
  local ours, theirs = tonumber(ARGV[1]), tonumber(claim)
  if ours < theirs then return held end
  if ours == theirs and redis.sha1hex(ARGV[2]) < redis.sha1hex(id) then return held end
end
if held ~= mine then
  go_on_at_full_memory(KEYS[1])
  redis.call('SET', KEYS[1], mine)
end
return mine

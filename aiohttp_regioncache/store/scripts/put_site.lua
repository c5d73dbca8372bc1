-- Store a revision of a site unless a newer one is there; of two with the same number, everywhere the same one stays.
-- Returns its number, 'stored' or 'older', and what stood there before.
-- KEYS: site   ARGV: revision, or 0 for a new one; the least that a new one may be; the record, empty for a deleted site;
-- lifetime of such a one in ms
local before = redis.call('GET', KEYS[1]) or ''
local known = tonumber(string.match(before, '^(%d+)|') or '0')
local revision = tonumber(ARGV[1])
if revision == 0 then revision = math.max(now_ms(), known + 1, tonumber(ARGV[2])) end
local value = string.format('%d', revision) .. '|' .. ARGV[3]
local is_older = revision < known
if revision == known and value ~= before then is_older = redis.sha1hex(value) < redis.sha1hex(before) end
if is_older then return {revision, 'older', before} end
go_on_at_full_memory(KEYS[1])
if ARGV[3] == '' then
  redis.call('SET', KEYS[1], value, 'PX', ARGV[4])
else
  redis.call('SET', KEYS[1], value)
end
return {revision, 'stored', before}

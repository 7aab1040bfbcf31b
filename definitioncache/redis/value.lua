-- Key: of a hash with mark and value. Arguments: mark that is known, most bytes; to change it from there: new mark,
-- value, lifetime.
local found = redis.pcall('HGET', KEYS[1], 'mark')
local mark = type(found) == 'string' and #found <= 100 and found or '' -- '': nothing, or not ours
if ARGV[3] and mark == ARGV[1] then
  if mark == '' then redis.call('DEL', KEYS[1]) end
  redis.call('HSET', KEYS[1], 'mark', ARGV[3], 'value', ARGV[4])
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
  return {'OK'}
end
if mark == '' then
  if redis.call('EXISTS', KEYS[1]) == 0 then return {'NONE'} end
  return {'FOREIGN'}
end
if mark == ARGV[1] then return {'KNOWN'} end
if redis.call('HSTRLEN', KEYS[1], 'value') > tonumber(ARGV[2]) then return {'LARGE', mark} end
return {'VALUE', mark, redis.call('HGET', KEYS[1], 'value')}

-- Arguments: fence that is known, lifetime of the copy, most bytes.
if redis.call('EXISTS', KEYS[3]) == 0 then return {'NONE'} end
local fence, at, mark = copy(tonumber(ARGV[2]))
if not fence then return {'FOREIGN'} end
local age = math.max(0, now() - at)
if age >= tonumber(ARGV[2]) then return {'NONE'} end
if fence == ARGV[1] then return {'KNOWN', age} end
if redis.call('HSTRLEN', KEYS[3], 'value') > tonumber(ARGV[3]) then return {'LARGE', age, fence, mark} end
return {'COPY', age, fence, mark, redis.call('HGET', KEYS[3], 'value')}

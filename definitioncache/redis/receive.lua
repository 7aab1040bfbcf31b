-- Arguments: owner, lifetime of the lock, of the copy, fence, 1 if unchanged, fence and mark of the copy that was
-- found unusable, mark, value, fence that is overruled, ids of the stores superseded.
local owner = held(KEYS[1], tonumber(ARGV[2]))
local claims = redis.pcall('GET', KEYS[2]) == ARGV[1]
if owner and owner ~= ARGV[1] and not claims then return {'NOTLEADER'} end
local fence, at, mark = copy(tonumber(ARGV[3]))
local foreign = not fence
if fence and (fence .. mark == ARGV[6] or now() - at >= tonumber(ARGV[3])) then fence = nil end
if ARGV[5] == '1' then
  if fence ~= ARGV[4] then return {'NOCOPY'} end
elseif fence and fence ~= ARGV[9] then
  local replaces = string.sub(ARGV[4], 1, 19) >= string.sub(fence, 1, 19)
  if string.sub(ARGV[4], 21) ~= string.sub(fence, 21) then
    replaces = now() - at >= 2 * tonumber(ARGV[2]) -- whose store it is has not renewed it
    for i = 10, #ARGV do replaces = replaces or ARGV[i] == string.sub(fence, 21) end
  end
  if not replaces then return {'OLDER', fence} end
end
if not owner then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
local confirmed = string.format('%.0f', now())
if ARGV[5] == '1' then
  redis.call('HSET', KEYS[3], 'at', confirmed)
else
  if foreign then redis.call('DEL', KEYS[3]) end
  redis.call('HSET', KEYS[3], 'fence', ARGV[4], 'at', confirmed, 'mark', ARGV[7], 'value', ARGV[8])
end
redis.call('PEXPIRE', KEYS[3], ARGV[3])
if claims then redis.call('DEL', KEYS[2]) end
if ARGV[5] ~= '1' then redis.pcall('PUBLISH', KEYS[3], ARGV[1]) end -- who may not is told of by polls alone
return {'OK'}

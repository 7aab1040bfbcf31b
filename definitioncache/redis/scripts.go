package redis

import goredis "github.com/redis/go-redis/v9"

// The scripts are the rules of the shared place, so that none of their steps is
// seen without the others. Time is Redis' own. Each has the keys of the lock, of the
// claim of who fetches for want of a copy, and of the copy, a hash:
//
//	fence  the revision's number, with 19 digits so that texts compare as
//	       numbers do (Lua's numbers are float64), a space, the store's id
//	at     when it was confirmed, in milliseconds
//	mark   the checksum of value
//	value  as definitioncache.Encode writes it
const common = `
-- held gives whose right it is; what is no text, or would last for ever, is not ours
local function held(key)
  local owner = redis.pcall('GET', key)
  if type(owner) == 'string' and redis.call('PTTL', key) >= 0 then return owner end
end
local function now()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
-- copy gives fence, at and mark; nothing where the key has no hash, or not ours
local function copy()
  local found = redis.pcall('HMGET', KEYS[3], 'fence', 'at', 'mark')
  if found.err or not (found[1] and tonumber(found[2]) and found[3]) then return end
  return found[1], tonumber(found[2]), found[3]
end
`

// turnScript: owner, lifetime of the lock, of the claim, 1 for want of a copy.
var turnScript = goredis.NewScript(common + `
local owner = held(KEYS[1])
if not owner or owner == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return 'LEAD'
end
if ARGV[4] == '1' then
  local claimed = held(KEYS[2])
  if not claimed or claimed == ARGV[1] then
    redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3])
    return 'ONCE'
  end
end
return 'FOLLOW'
`)

// readScript: fence that is known, lifetime of the copy, most bytes.
var readScript = goredis.NewScript(common + `
if redis.call('EXISTS', KEYS[3]) == 0 then return {'NONE'} end
local fence, at, mark = copy()
if not fence then return {'FOREIGN'} end
local age = math.max(0, now() - at)
if age >= tonumber(ARGV[2]) then return {'NONE'} end
if fence == ARGV[1] then return {'KNOWN', age} end
if redis.call('HSTRLEN', KEYS[3], 'value') > tonumber(ARGV[3]) then return {'LARGE', age, fence, mark} end
return {'COPY', age, fence, mark, redis.call('HGET', KEYS[3], 'value')}
`)

// receiveScript: owner, lifetime of the lock, of the copy, fence, 1 if unchanged,
// fence and mark of the copy that was found unusable, mark, value, ids of the stores
// superseded.
var receiveScript = goredis.NewScript(common + `
local owner = held(KEYS[1])
if owner and owner ~= ARGV[1] and held(KEYS[2]) ~= ARGV[1] then return {'NOTLEADER'} end
local fence, at, mark = copy()
if fence and (fence .. mark == ARGV[6] or now() - at >= tonumber(ARGV[3])) then fence = nil end
if ARGV[5] == '1' then
  if fence ~= ARGV[4] then return {'NOCOPY'} end
elseif fence then
  local replaces = string.sub(ARGV[4], 1, 19) >= string.sub(fence, 1, 19)
  if string.sub(ARGV[4], 21) ~= string.sub(fence, 21) then
    replaces = false
    for i = 9, #ARGV do replaces = replaces or ARGV[i] == string.sub(fence, 21) end
  end
  if not replaces then return {'OLDER', fence} end
end
if not owner then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
local confirmed = string.format('%.0f', now())
if ARGV[5] == '1' then
  redis.call('HSET', KEYS[3], 'at', confirmed)
else
  if redis.call('TYPE', KEYS[3]).ok ~= 'hash' then redis.call('DEL', KEYS[3]) end
  redis.call('HSET', KEYS[3], 'fence', ARGV[4], 'at', confirmed, 'mark', ARGV[7], 'value', ARGV[8])
end
redis.call('PEXPIRE', KEYS[3], ARGV[3])
if held(KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
return {'OK'}
`)

// releaseScript: owner.
var releaseScript = goredis.NewScript(common + `
for i = 1, 2 do
  if held(KEYS[i]) == ARGV[1] then redis.call('DEL', KEYS[i]) end
end
return 'OK'
`)

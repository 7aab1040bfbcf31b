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

-- now is one moment in the whole script: in many a Redis time goes on in one, and what is as old as can be would be
-- too old a millisecond later
local moment
local function now()
  if not moment then
    local t = redis.call('TIME')
    moment = t[1] * 1000 + math.floor(t[2] / 1000)
  end
  return moment
end
-- held gives whose right it is; what is no text, or lasts for ever or longer than any can, is not ours: after a
-- failover to a machine whose clock is behind, the right of who is dead would last for as long
local function held(key, life)
  local owner = redis.pcall('GET', key)
  local left = redis.call('PTTL', key)
  if type(owner) == 'string' and left >= 0 and left <= 2 * life + 1000 then return owner end
end
-- copy gives fence, at and mark; nothing where the key has no hash, or not ours. What was confirmed in the future, by
-- a clock that was ahead, is as old as a copy with that life can be: it would stay fresh for ever; but what is older
-- does not take its place
local function copy(life)
  local found = redis.pcall('HMGET', KEYS[3], 'fence', 'at', 'mark')
  if found.err or not (found[1] and tonumber(found[2]) and found[3]) then return end
  if #found[1] > 2000 or #found[3] > 100 then return end
  local at = tonumber(found[2])
  if not (at <= now() + 1000) then at = now() - life + 1 end
  return found[1], at, found[3]
end

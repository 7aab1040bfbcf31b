-- Arguments: owner, lifetime of the lock, of the claim, 1 for want of a copy.
local owner = held(KEYS[1], tonumber(ARGV[2]))
if not owner or owner == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return 'LEAD'
end
if ARGV[4] == '1' then
  local claimed = held(KEYS[2], tonumber(ARGV[3]))
  if not claimed or claimed == ARGV[1] then
    redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3])
    return 'ONCE'
  end
end
return 'FOLLOW'

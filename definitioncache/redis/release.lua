-- Argument: owner.
for i = 1, 2 do
  if redis.pcall('GET', KEYS[i]) == ARGV[1] then redis.call('DEL', KEYS[i]) end
end
return 'OK'

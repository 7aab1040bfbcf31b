-- Argument: owner.
for i = 1, 2 do
  if held(KEYS[i]) == ARGV[1] then redis.call('DEL', KEYS[i]) end
end
return 'OK'

"""What the store does in one step, in Redis's Lua.

    PREFIX:lease:NODE/LIFE/NUMBER      a bridge lives: renewed all the time, expires after claim_ttl_s
    PREFIX:claim:PBX/SUBSCRIPTION/CALL   -> LEASE'S KEY/NUMBER: held for as long as that lease is there

So what is renewed is one key for each bridge and not one for each claim, and all claims of a bridge that dies become
free at once. A claim's own expiry only clears away what nobody came back for.
"""

HOLD = """
-- Renew a lease and take claims under it. KEYS: claims. ARGV: lease, its ttl in ms, the claims' ttl in ms, and a value
-- for each claim. Gives whether the lease was there, then for each claim "" if it is ours now, else whose it is.
local answers = {redis.call('EXISTS', ARGV[1])}
redis.call('SET', ARGV[1], '1', 'PX', ARGV[2])
for i, key in ipairs(KEYS) do
  local there = redis.call('GET', key)
  local lease = there and string.match(there, '^(.*)/')
  if not lease or lease == ARGV[1] or redis.call('EXISTS', lease) == 0 then
    redis.call('SET', key, ARGV[i + 3], 'PX', ARGV[3])
    answers[i + 1] = ''
  else
    answers[i + 1] = there
  end
end
return answers
"""

LOOK = """
-- Which claims could be had. KEYS: claims. ARGV: our lease. Gives 1 for each that is free or under our lease, else 0.
local answers, alive = {}, {[ARGV[1]] = 0}
for i, key in ipairs(KEYS) do
  local there = redis.call('GET', key)
  local lease = there and string.match(there, '^(.*)/')
  if lease and not alive[lease] then alive[lease] = redis.call('EXISTS', lease) end
  answers[i] = lease and 1 - alive[lease] or 1
end
return answers
"""

RELEASE = """
-- Let go of claims that still have the value we gave them. KEYS: claims. ARGV: the values.
for i, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[i] then redis.call('DEL', key) end
end
return 0
"""

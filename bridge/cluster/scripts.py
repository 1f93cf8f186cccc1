"""Atomic operations in the store, as Redis's Lua.

    PREFIX:lease:NODE/RUN/NUMBER       a node is alive: renewed all the time, expires after claim_ttl_s
    PREFIX:claim:PBX/SUBSCRIPTION/CALL   -> LEASE'S KEY/NUMBER: held as long as that lease exists

Only one key per node is renewed, not one per claim, and all claims of a node that fails become available together. A
claim's own expiry only removes what was never released.
"""

HOLD = """
-- Renew a lease and take claims under it. KEYS: claims. ARGV: lease, its ttl in ms, the claims' ttl in ms, and a value
-- for each claim. Returns whether the lease existed, then for each claim "" if it is held now, otherwise its holder.
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
-- Which claims are available. KEYS: claims. ARGV: the lease. Returns 1 for each that is free or under the lease,
-- else 0.
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
-- Release claims that still have their value. KEYS: claims. ARGV: the values.
for i, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[i] then redis.call('DEL', key) end
end
return 0
"""

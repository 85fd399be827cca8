-- GCRA, as the limiter in each process has it: the bucket is one time, the
-- theoretical arrival time (TAT) at which it is full again.
--
-- KEYS[1]  the bucket: "SECONDS NANOSECONDS" of its TAT, absent when full
-- ARGV[1]  nanoseconds that one request takes to come back
-- ARGV[2]  nanoseconds by which the TAT may lie ahead of a request that is allowed
-- ARGV[3], ARGV[4]  the time of the request as seconds and nanoseconds, else the
--          server's own: one clock for all replicas, however theirs differ
--
-- Answers 0 for allowed, else the nanoseconds after which it would be.
-- Differences are exact: a double holds 104 days in nanoseconds, and the service
-- takes no limit whose bucket needs more than 30 to fill. Times are not, and so
-- stay in two parts.
local one = tonumber(ARGV[1])
local most = tonumber(ARGV[2])
local seconds, nanos
if ARGV[3] then
    seconds, nanos = tonumber(ARGV[3]), tonumber(ARGV[4])
else
    local time = redis.call('TIME')
    seconds, nanos = tonumber(time[1]), tonumber(time[2]) * 1000
end

local ahead = 0
local bucket = redis.call('GET', KEYS[1])
if bucket then
    local tat_seconds, tat_nanos = string.match(bucket, '^(%d+) (%d+)$')
    if tat_seconds then
        ahead = (tonumber(tat_seconds) - seconds) * 1e9 + tonumber(tat_nanos) - nanos
    end
end
-- No bucket is emptier than empty. One that looks so was written under another
-- rate, or by the clock of a server that has failed over to this one.
ahead = math.max(0, math.min(ahead, most + one))
if ahead > most then
    return ahead - most
end

ahead = ahead + one
nanos = nanos + ahead
bucket = string.format('%.0f %.0f', seconds + math.floor(nanos / 1e9), nanos % 1e9)
-- A second longer than it counts: the clock that expires keys is not ARGV's.
redis.call('SET', KEYS[1], bucket, 'PX', string.format('%.0f', math.ceil(ahead / 1e6) + 1000))
return 0

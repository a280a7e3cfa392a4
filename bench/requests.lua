-- Requests for wrk: GET or PUT of names chosen at random. The script's arguments are the method, a file of
-- names, a file of dates, one a line, and header fields, each its name and its value. The result is a line of JSON after "RESULT".
-- Requests are built before the run, so that wrk has hardly anything to do in it but to choose, send and
-- receive. The date of a PUT is chosen anew each time: to store what is there already is no work.
-- With THINK_MS in the environment each connection waits that long before a request, on average: exponential, so
-- that many connections together send as people do who know nothing of each other.

local requests = {}
local dates = {}
local count = 0
local threads = 0

function setup(thread)
  -- Each thread has a Lua of its own: the arguments reach it through init(), the seed through this.
  threads = threads + 1
  thread:set("seed", threads)
end

function init(args)
  for line in io.lines(args[3]) do
    dates[#dates + 1] = line
  end
  local headers = {}
  for index = 4, #args, 2 do
    headers[args[index]] = args[index + 1]
  end
  for name in io.lines(args[2]) do
    count = count + 1
    if args[1] == "PUT" then
      headers["Content-Type"] = "application/json"
      local whole = wrk.format("PUT", "/hello/" .. name, headers, '{"dateOfBirth":"YYYY-MM-DD"}')
      requests[count] = whole:sub(1, -#'YYYY-MM-DD"}' - 1)
    else
      requests[count] = wrk.format("GET", "/hello/" .. name, headers)
    end
  end
  if args[1] == "PUT" then
    request = put
  end
  math.randomseed(seed)
  local think = tonumber(os.getenv("THINK_MS"))
  if think then
    delay = function()
      return math.floor(0.5 - think * math.log(1 - math.random()))
    end
  end
end

function request()
  return requests[math.random(count)]
end

function put()
  return requests[math.random(count)] .. dates[math.random(#dates)] .. '"}'
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"microseconds":%d,"p50":%d,"p99":%d,"max":%d,"status":%d,"socket":%d,"timeout":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    errors.status, errors.connect + errors.read + errors.write, errors.timeout))
end

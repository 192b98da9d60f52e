-- Answers what HAProxy counts in Prometheus's text format 0.0.4, under the names that Octavia's users know.
--
-- The numbers come from HAProxy's statistics page, which a frontend of our own serves to this program alone. Other ways
-- fail in HAProxy 2.6: its Lua objects of servers know neither those that were added while it runs nor that one is gone,
-- and what a Lua socket gets from the runtime socket stalls after 16 kB. Clients reach nothing but this text.

local PAGE = { url = "http://localhost/;csv", dst = "abns@colonnade-statistics" }
-- What the kernel balances: a file of the agent's, written at each heartbeat, with the page's names for its columns.
local DATAGRAMS = os.getenv("COLONNADE_DATAGRAMS")

-- Name, column of the statistics, type, of what (l: listener, p: pool, m: member), meaning, what the column is divided by.
local COLUMNS = {
  { "current_sessions", "scur", "gauge", "lpm", "Sessions there are now." },
  { "max_sessions", "smax", "gauge", "lpm", "Most sessions at once." },
  { "limit_sessions", "slim", "gauge", "lpm", "Sessions that are allowed at once." },
  { "sessions_total", "stot", "counter", "lpm", "Sessions so far." },
  { "limit_session_rate", "rate_lim", "gauge", "l", "New sessions that are allowed in a second; 0: no limit." },
  { "max_session_rate", "rate_max", "gauge", "lpm", "Most new sessions in a second." },
  { "last_session_seconds", "lastsess", "gauge", "pm", "Seconds since the last session; -1: there was none." },
  { "connections_rate_max", "conn_rate_max", "gauge", "l", "Most new connections in a second." },
  { "connections_total", "conn_tot", "counter", "l", "Connections so far." },
  { "current_queue", "qcur", "gauge", "pm", "Requests that wait for a member now." },
  { "max_queue", "qmax", "gauge", "pm", "Most requests that waited at once." },
  { "queue_limit", "qlimit", "gauge", "m", "Requests that may wait for the member; 0: no limit." },
  { "bytes_in_total", "bin", "counter", "lpm", "Bytes of requests." },
  { "bytes_out_total", "bout", "counter", "lpm", "Bytes of responses." },
  { "connection_attempts_total", "connect", "counter", "pm", "Attempts to connect to a member." },
  { "connection_reuses_total", "reuse", "counter", "pm", "Requests on a connection that was there." },
  { "queue_time_average_seconds", "qtime", "gauge", "pm", "Mean wait of the last 1024 connections.", 1000 },
  { "connect_time_average_seconds", "ctime", "gauge", "pm", "Mean time to connect of the last 1024.", 1000 },
  { "response_time_average_seconds", "rtime", "gauge", "pm", "Mean time to respond of the last 1024.", 1000 },
  { "total_time_average_seconds", "ttime", "gauge", "pm", "Mean time in all of the last 1024.", 1000 },
  { "max_queue_time_seconds", "qtime_max", "gauge", "pm", "Longest wait.", 1000 },
  { "max_connect_time_seconds", "ctime_max", "gauge", "pm", "Longest time to connect.", 1000 },
  { "max_response_time_seconds", "rtime_max", "gauge", "pm", "Longest time to respond.", 1000 },
  { "max_total_time_seconds", "ttime_max", "gauge", "pm", "Longest time in all.", 1000 },
  { "requests_denied_total", "dreq", "counter", "lp", "Requests that were denied." },
  { "responses_denied_total", "dresp", "counter", "lpm", "Responses that were denied." },
  { "request_errors_total", "ereq", "counter", "l", "Requests that were none, or broke off." },
  { "denied_connections_total", "dcon", "counter", "l", "Connections that were denied." },
  { "denied_sessions_total", "dses", "counter", "l", "Sessions that were denied." },
  { "connection_errors_total", "econ", "counter", "pm", "Connections to members that failed." },
  { "response_errors_total", "eresp", "counter", "pm", "Responses that were none, or broke off." },
  { "retry_warnings_total", "wretr", "counter", "pm", "Connections that were tried again." },
  { "redispatch_warnings_total", "wredis", "counter", "pm", "Requests that went to another member." },
  { "failed_header_rewriting_total", "wrew", "counter", "lpm", "Headers that could not be set." },
  { "client_aborts_total", "cli_abrt", "counter", "pm", "Transfers that the client ended." },
  { "member_aborts_total", "srv_abrt", "counter", "p", "Transfers that a member ended." },
  { "server_aborts_total", "srv_abrt", "counter", "m", "Transfers that the member ended." },
  { "active_members", "act", "gauge", "p", "Members that take requests." },
  { "backup_members", "bck", "gauge", "p", "Backup members that would." },
  { "weight", "weight", "gauge", "m", "The member's weight." },
  { "check_failures_total", "chkfail", "counter", "m", "Health checks that failed while the member was up." },
  { "check_up_down_total", "chkdown", "counter", "pm", "Changes from up to down." },
  { "check_last_change_seconds", "lastchg", "gauge", "pm", "Seconds since the last change of status." },
  { "downtime_seconds_total", "downtime", "counter", "pm", "Seconds of being down." },
  { "current_throttle", "throttle", "gauge", "m", "Share of its weight in percent while it starts slowly." },
  { "loadbalanced_total", "lbtot", "counter", "pm", "Times that it was chosen." },
  { "http_requests_rate_max", "req_rate_max", "gauge", "l", "Most HTTP requests in a second." },
  { "http_requests_total", "req_tot", "counter", "lp", "HTTP requests." },
  { "intercepted_requests_total", "intercepted", "counter", "l", "Requests answered without a member." },
  { "http_cache_lookups_total", "cache_lookups", "counter", "lp", "Requests looked up in the cache." },
  { "http_cache_hits_total", "cache_hits", "counter", "lp", "Requests found in the cache." },
  { "http_comp_bytes_in_total", "comp_in", "counter", "lp", "Bytes given to compression." },
  { "http_comp_bytes_out_total", "comp_out", "counter", "lp", "Bytes that compression made." },
  { "http_comp_bytes_bypassed_total", "comp_byp", "counter", "lp", "Bytes that were not compressed." },
  { "http_comp_responses_total", "comp_rsp", "counter", "lp", "Responses that were compressed." },
  { "idle_connections_current", "srv_icur", "gauge", "m", "Idle connections to the member." },
  { "idle_connections_limit", "src_ilim", "gauge", "m", "Idle connections that are kept at most." },
}

-- Name, name in what HAProxy says of its process, type, meaning.
local INFO = {
  { "loadbalancer_max_connections", "Maxconn", "gauge", "Connections that are allowed at once." },
  { "loadbalancer_current_connections", "CurrConns", "gauge", "Connections there are now." },
  { "loadbalancer_connections_total", "CumConns", "counter", "Connections so far." },
  { "loadbalancer_requests_total", "CumReq", "counter", "Requests so far." },
  { "loadbalancer_max_ssl_connections", "MaxSslConns", "gauge", "TLS connections that are allowed; 0: no limit." },
  { "loadbalancer_current_ssl_connections", "CurrSslConns", "gauge", "TLS connections there are now." },
  { "loadbalancer_ssl_connections_total", "CumSslConns", "counter", "TLS connections so far." },
  { "loadbalancer_current_connection_rate", "ConnRate", "gauge", "New connections in the last second." },
  { "loadbalancer_limit_connection_rate", "ConnRateLimit", "gauge", "New ones allowed in a second; 0: no limit." },
  { "loadbalancer_max_connection_rate", "MaxConnRate", "gauge", "Most new connections in a second." },
  { "loadbalancer_current_session_rate", "SessRate", "gauge", "New sessions in the last second." },
  { "loadbalancer_limit_session_rate", "SessRateLimit", "gauge", "New ones allowed in a second; 0: no limit." },
  { "loadbalancer_max_session_rate", "MaxSessRate", "gauge", "Most new sessions in a second." },
  { "loadbalancer_current_ssl_rate", "SslRate", "gauge", "New TLS connections in the last second." },
  { "loadbalancer_limit_ssl_rate", "SslRateLimit", "gauge", "New ones allowed in a second; 0: no limit." },
  { "loadbalancer_max_ssl_rate", "MaxSslRate", "gauge", "Most new TLS connections in a second." },
  { "loadbalancer_current_frontend_ssl_key_rate", "SslFrontendKeyRate", "gauge", "Handshakes in the last second." },
  { "loadbalancer_max_frontend_ssl_key_rate", "SslFrontendMaxKeyRate", "gauge", "Most handshakes in a second." },
  { "loadbalancer_frontend_ssl_reuse", "SslFrontendSessionReuse_pct", "gauge", "Percent that resumed a session." },
  { "loadbalancer_current_backend_ssl_key_rate", "SslBackendKeyRate", "gauge", "Handshakes with members lately." },
  { "loadbalancer_max_backend_ssl_key_rate", "SslBackendMaxKeyRate", "gauge", "Most of them in a second." },
  { "loadbalancer_ssl_cache_lookups_total", "SslCacheLookups", "counter", "TLS sessions looked up." },
  { "loadbalancer_ssl_cache_misses_total", "SslCacheMisses", "counter", "TLS sessions not found." },
  { "loadbalancer_http_comp_bytes_in_total", "CompressBpsIn", "counter", "Bytes given to compression." },
  { "loadbalancer_http_comp_bytes_out_total", "CompressBpsOut", "counter", "Bytes that compression made." },
  { "loadbalancer_limit_http_comp", "CompressBpsRateLim", "gauge", "Bytes it may make in a second; 0: no limit." },
  { "loadbalancer_listeners", "listeners", "gauge", "Listeners that are served." },
  { "loadbalancer_dropped_logs_total", "DroppedLogs", "counter", "Log messages that were lost." },
  { "loadbalancer_cpu", "cpu", "gauge", "Percent of its processors' time that the load balancer uses." },
  { "loadbalancer_memory", "memory", "gauge", "Percent of the machine's memory that the load balancer uses." },
  { "memory_pool_allocated_bytes", "PoolAlloc_bytes", "gauge", "Bytes allocated in pools." },
  { "memory_pool_used_bytes", "PoolUsed_bytes", "gauge", "Bytes of them that are in use." },
  { "memory_pool_failures_total", "PoolFailed", "counter", "Allocations that failed." },
}

local SCOPES = {
  { letter = "l", name = "listener", states = { "UP", "DOWN" } },
  { letter = "p", name = "pool", states = { "UP", "DOWN" } },
  { letter = "m", name = "member", states = { "UP", "DOWN", "MAINT", "DRAIN", "NOLB" } },
}
local CODES = { "1xx", "2xx", "3xx", "4xx", "5xx", "other" }

-- Lets requests pass after each millisecond of work. To yield is not enough: HAProxy takes up again a Lua program that yields,
-- some 200 times (tune.runqueue-depth), before it looks at its sockets; one that sleeps it leaves alone until it is time.
local SLICE_S, OFTEN = 0.001, 32
local begun = 0

local function rest(n)
  if n % OFTEN == 0 and os.clock() - begun > SLICE_S then
    core.msleep(1)
    begun = os.clock()
  end
end

-- The fields from ``at`` on to the end of the row, and where the next row begins. A field in double quotes may hold commas
-- and ends of lines; a quote in it is doubled.
local function quoted(text, at)
  local row = {}
  repeat
    local field, stop
    if text:sub(at, at) == '"' then
      local last = at
      repeat
        last = text:find('"', last + 1, true) or #text + 1
        local doubled = text:sub(last + 1, last + 1) == '"'
        if doubled then
          last = last + 1
        end
      until not doubled
      field, stop = text:sub(at + 1, last - 1), last + 1
    else
      stop = text:find("[,\n]", at) or #text + 1
      field = text:sub(at, stop - 1)
    end
    row[#row + 1] = field
    at = stop + 1
  until text:sub(stop, stop) ~= ","
  return row, at
end

local function plain(line)
  local row, n = {}, 0
  for field in (line .. ","):gmatch("([^,]*),") do
    n = n + 1
    row[n] = field
  end
  return row
end

-- Rows of fields; empty lines are none.
local function csv(text)
  local rows, at = {}, 1
  while at <= #text do
    local stop, row = text:find("\n", at, true) or #text + 1, nil
    local line = text:sub(at, stop - 1)
    if line:find('"', 1, true) then
      row, at = quoted(text, at)
    else
      row, at = plain(line), stop + 1
    end
    if #row > 1 then
      rows[#rows + 1] = row
      rest(#rows)
    end
  end
  return rows
end

local function label(name, value)
  return name .. '="' .. value:gsub('[\\"]', "\\%0"):gsub("\n", "\\n") .. '"'
end

-- Adds the rows of the agent's file. A column that it lacks is an empty field.
local function add_datagrams(rows, columns)
  local file = DATAGRAMS and io.open(DATAGRAMS)
  local own = file and csv(file:read("a")) or {}
  if file then
    file:close()
  end
  local names = table.remove(own, 1)
  for _, row in ipairs(own) do
    local placed = setmetatable({}, { __index = function(_, key) return type(key) == "number" and "" or nil end })
    for n, name in ipairs(names) do
      placed[columns[name]] = row[n]
    end
    rows[#rows + 1] = placed
  end
end

-- Rows by the letter of their scope, each with its labels; and where columns are.
local function statistics()
  local answer = core.httpclient():get(PAGE)
  if answer.status ~= 200 then
    return nil
  end
  local rows = csv((answer.body:gsub("^# ", "")))
  local found, columns = { l = {}, p = {}, m = {} }, {}
  for n, name in ipairs(table.remove(rows, 1) or {}) do
    columns[name] = n
  end
  add_datagrams(rows, columns)
  for n, row in ipairs(rows) do
    rest(n)
    local proxy, name = row[columns.pxname], row[columns.svname]
    local pool, listener = proxy:match("^(.*):([^:]*)$")
    if name == "FRONTEND" and proxy ~= "colonnade-statistics" then
      row.labels, row.letter = label("listener", proxy), "l"
    elseif pool then
      row.labels, row.letter = label("pool", pool) .. "," .. label("listener", listener), "p"
      if name ~= "BACKEND" then
        row.labels, row.letter = row.labels .. "," .. label("member", name), "m"
      end
    end
    if row.letter then
      row.braced = "{" .. row.labels .. "} "
      table.insert(found[row.letter], row)
    end
  end
  return found, columns
end

local function kilobytes(path, name)
  local file = io.open(path)
  local text = file and file:read("a") or ""
  if file then
    file:close()
  end
  return tonumber(text:match("\n" .. name .. ":%s+(%d+)")) or tonumber(text:match("^" .. name .. ":%s+(%d+)"))
end

local function information(listeners)
  local found = { listeners = tostring(listeners) }
  for name, value in pairs(core.get_info()) do
    found[name] = tostring(value)
  end
  local own, all = kilobytes("/proc/self/status", "VmRSS"), kilobytes("/proc/meminfo", "MemTotal")
  if own and all then
    found.memory = string.format("%.2f", 100 * own / all)
  end
  if tonumber(found.Idle_pct) then
    found.cpu = tostring(100 - tonumber(found.Idle_pct))
  end
  return found
end

local function family(applet, name, kind, help, samples)
  if #samples > 0 then
    applet:send("# HELP " .. name .. " " .. help .. "\n# TYPE " .. name .. " " .. kind .. "\n" .. table.concat(samples))
  end
end

local function sample(samples, name, labels, value)
  if value and value:match("^-?%d+%.?%d*$") then
    samples[#samples + 1] = name .. labels .. value .. "\n"
  end
end

local function states(applet, scope, rows, columns)
  local name, samples = "octavia_" .. scope.name .. "_status", {}
  for n, row in ipairs(rows) do
    rest(n)
    local said = row[columns.status]:match("^%a+")
    local state = (said == "OPEN" or said == "FULL" or said == "no") and "UP" or said == "STOP" and "DOWN" or said
    for _, one in ipairs(scope.states) do
      local labels = "{" .. row.labels .. ',state="' .. one .. '"} '
      sample(samples, name, labels, one == state and "1" or "0")
    end
  end
  family(applet, name, "gauge", "Current status of the " .. scope.name .. ".", samples)
end

local function responses(applet, scope, rows, columns)
  local name, samples = "octavia_" .. scope.name .. "_http_responses_total", {}
  for n, row in ipairs(rows) do
    rest(n)
    for _, code in ipairs(CODES) do
      sample(samples, name, "{" .. row.labels .. ',code="' .. code .. '"} ', row[columns["hrsp_" .. code]])
    end
  end
  family(applet, name, "counter", "HTTP responses by the first digit of their status.", samples)
end

local function scoped(applet, scope, rows, columns)
  states(applet, scope, rows, columns)
  for _, column in ipairs(COLUMNS) do
    local word, from, kind, scopes, help, part = table.unpack(column)
    local at, name, samples = columns[from], "octavia_" .. scope.name .. "_" .. word, {}
    if at and scopes:find(scope.letter, 1, true) then
      for n, row in ipairs(rows) do
        rest(n)
        local value = row[at]
        if part and tonumber(value) then
          value = string.format("%.3f", tonumber(value) / part)
        end
        sample(samples, name, row.braced, value)
      end
      family(applet, name, kind, help, samples)
    end
  end
  responses(applet, scope, rows, columns)
end

local function metrics(applet)
  local found, columns = statistics()
  if not found or not columns.status then
    applet:set_status(503)
    applet:start_response()
    applet:send("The statistics cannot be read just now.\n")
    return
  end
  applet:set_status(200)
  applet:add_header("content-type", "text/plain; version=0.0.4; charset=utf-8")
  applet:add_header("cache-control", "no-cache")
  applet:start_response()
  local info = information(#found.l)
  for _, line in ipairs(INFO) do
    local samples = {}
    sample(samples, "octavia_" .. line[1], " ", info[line[2]])
    family(applet, "octavia_" .. line[1], line[3], line[4], samples)
  end
  for _, scope in ipairs(SCOPES) do
    scoped(applet, scope, found[scope.letter], columns)
  end
end

core.register_service("metrics", "http", metrics)

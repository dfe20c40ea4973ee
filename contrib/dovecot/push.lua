-- Tells imapproxy at once when one of a user's mailboxes has changed, so that
-- it needs no connection of its own to watch it. docs/push-events.md says how
-- to set it up; for Dovecot 2.3 in short:
--
--   mail_plugins = $mail_plugins notify push_notification mail_lua push_notification_lua
--   plugin {
--     push_notification_driver = lua:file=/etc/dovecot/push.lua
--     imapproxy_url = http://10.0.0.5:8143/v1/events http://10.0.0.6:8143/v1/events
--     imapproxy_tell = one
--     imapproxy_token_file = /etc/dovecot/imapproxy.token
--     imapproxy_shared = shared/%%u/
--   }
--
-- imapproxy_url: the event endpoints of proxies, separated by spaces.
-- imapproxy_tell: "one" for proxies of one cluster, which tell each other: the first that
--   takes the event gets it, the next ones only if it doesn't. "all", the default:
--   each of them gets it.
-- imapproxy_token_file: its first line is the token; the mail users (mail_uid)
--   must be able to read it, and no other user.
-- imapproxy_shared: optional, the prefix of the shared namespace with %u for the
--   owner: what another user does in a shared mailbox is then told of its owner.
--
-- Dovecot runs this inside the user's command, before its tagged OK. So a proxy
-- that doesn't answer may cost a command half a second, once: after that it's left
-- alone for ten seconds. What it missed (with "one": what no proxy has taken) is made up
-- for by the next event, which then stands for all of the user's mailboxes.

local timeout_msecs = 500
local pause_secs = 10
local max_missed = 1000 -- users; beyond that imapproxy's sweep is left to find them

local settings   -- read at the first event
local client     -- dovecot.http.client, one for the process
local urls = {}  -- each { url = ..., not_before = time, missed = { user = true }, count = … }
local none = { missed = {}, count = 0 } -- with "one": the users whose events no proxy has taken

local function read_token(path)
  local f, err = io.open(path, "r")
  if f == nil then
    dovecot.i_error("imapproxy push: " .. err)
    return nil
  end
  local line = f:read("*l") or ""
  f:close()
  return (line:gsub("%s+$", ""))
end

-- Dovecot 2.4 gives lua_settings to script_init; 2.3 has plugin settings, which
-- come with the user.
local init_args = {}
function script_init(args)
  if type(args) == "table" then
    init_args = args
  end
  return 0
end

local function setting(user, name)
  local value = init_args[name]
  if value == nil and user.plugin_getenv ~= nil then
    value = user:plugin_getenv(name)
  end
  if value == "" then
    return nil
  end
  return value
end

local function new_client()
  -- The names of 2.3; it ignores unknown ones silently. 2.4 refuses them.
  local ok, c = pcall(dovecot.http.client, {
    request_timeout_msecs = timeout_msecs, request_absolute_timeout_msecs = timeout_msecs,
    connect_timeout_msecs = timeout_msecs, max_attempts = 1, max_connect_attempts = 1,
  })
  if ok then
    return c
  end
  local t = timeout_msecs .. "ms"
  return dovecot.http.client({
    request_timeout = t, request_absolute_timeout = t, connect_timeout = t, request_max_attempts = "1",
  })
end

local function set_up(user)
  settings = { shared = nil, token = nil, one = false }
  local list, token_file = setting(user, "imapproxy_url"), setting(user, "imapproxy_token_file")
  if list == nil or token_file == nil then
    dovecot.i_error("imapproxy push: imapproxy_url and imapproxy_token_file must both be set")
    return
  end
  settings.token = read_token(token_file)
  if settings.token == nil then
    return
  end
  for url in list:gmatch("%S+") do
    urls[#urls + 1] = { url = url, not_before = 0, missed = {}, count = 0 }
  end
  local tell = setting(user, "imapproxy_tell")
  if tell == "one" then
    settings.one = true
  elseif tell ~= nil and tell ~= "all" then
    dovecot.i_error('imapproxy push: imapproxy_tell is neither "one" nor "all"')
  end
  local shared = setting(user, "imapproxy_shared")
  if shared ~= nil then
    local before, after = shared:match("^(.*)%%u(.*)$")
    if before == nil then
      dovecot.i_error("imapproxy push: imapproxy_shared has no %u in it")
    else
      local quote = function(s) return (s:gsub("%W", "%%%0")) end
      settings.shared = "^" .. quote(before) .. "([^/]+)" .. quote(after) .. "(.+)$"
    end
  end
  client = new_client()
end

-- RFC 8259 §7; octets that aren't ASCII are UTF-8 in Dovecot, and pass as they are.
local function json(s)
  return '"' .. s:gsub('[%c"\\]', function(c) return string.format("\\u%04x", c:byte()) end) .. '"'
end

local function body(user, mailboxes)
  local events = {}
  for name in pairs(mailboxes) do
    events[#events + 1] = '{"mailbox":' .. json(name) .. "}"
  end
  return '{"user":' .. json(user) .. ',"events":[' .. table.concat(events, ",") .. "]}"
end

-- post tells one proxy; true when it answered with success.
local function post(url, payload)
  local ok, err = pcall(function()
    local request = client:request({ url = url, method = "POST" })
    request:add_header("Content-Type", "application/json")
    request:add_header("Authorization", "Bearer " .. settings.token)
    request:set_payload(payload)
    local response = request:submit()
    local status = response:status()
    if status < 200 or status > 299 then
      -- 9000 and above are Dovecot's own, such as a time-out
      error(status .. " " .. tostring(response:reason()), 0)
    end
  end)
  if not ok then
    dovecot.i_warning("imapproxy push: " .. url .. ": " .. tostring(err))
  end
  return ok
end

local function miss(proxy, user)
  if proxy.missed[user] then
    return
  end
  if proxy.count >= max_missed then
    proxy.missed, proxy.count = {}, 0
  end
  proxy.missed[user], proxy.count = true, proxy.count + 1
end

-- tell_one tells the first proxy that takes it.
local function tell_one(user, mailboxes)
  local missed = none.missed[user]
  for _, proxy in ipairs(urls) do
    if os.time() >= proxy.not_before then
      if post(proxy.url, body(user, missed and {} or mailboxes)) then
        if missed then
          none.missed[user], none.count = nil, none.count - 1
        end
        return
      end
      proxy.not_before = os.time() + pause_secs
    end
  end
  miss(none, user)
end

local function tell_all(user, mailboxes)
  for _, proxy in ipairs(urls) do
    local missed = proxy.missed[user]
    if os.time() < proxy.not_before then
      miss(proxy, user)
    elseif post(proxy.url, body(user, missed and {} or mailboxes)) then
      if missed then
        proxy.missed[user], proxy.count = nil, proxy.count - 1
      end
    else
      miss(proxy, user)
      proxy.not_before = os.time() + pause_secs
    end
  end
end

local function tell(user, mailboxes)
  if settings.one then
    tell_one(user, mailboxes)
  else
    tell_all(user, mailboxes)
  end
end

-- Dovecot calls begin, then events, then end, for each change that it makes in a
-- mailbox. One request a transaction is enough.
function dovecot_lua_notify_begin_txn(user)
  if settings == nil then
    set_up(user)
  end
  return { user = user.username, mailboxes = {}, owners = {}, some = false, all = false }
end

local function note(txn, name)
  txn.some = true
  if settings.shared ~= nil then
    local owner, mailbox = name:match(settings.shared)
    if owner ~= nil then
      txn.owners[owner] = txn.owners[owner] or {}
      txn.owners[owner][mailbox] = true
      return
    end
  end
  txn.mailboxes[name] = true
end

local function changed(txn, event)
  note(txn, event.mailbox)
end

-- The driver asks for those events that have a function here.
for _, name in ipairs({
  "message_new", "message_append", "message_expunge", "message_trash", "message_read",
  "flags_set", "flags_clear", "mailbox_create", "mailbox_delete",
}) do
  _G["dovecot_lua_notify_event_" .. name] = changed
end

-- What is below a renamed mailbox is renamed too, with no event of its own.
function dovecot_lua_notify_event_mailbox_rename(txn)
  txn.some, txn.all = true, true
end

function dovecot_lua_notify_end_txn(txn, success)
  if not success or not txn.some or client == nil then
    return
  end
  if txn.all then
    tell(txn.user, {})
  elseif next(txn.mailboxes) ~= nil then
    tell(txn.user, txn.mailboxes)
  end
  for owner, mailboxes in pairs(txn.owners) do
    tell(owner, mailboxes)
  end
end

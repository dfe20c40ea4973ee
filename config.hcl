# The settings of imapproxy: what each one means, what follows from it, and what
# holds when it isn't written. This file loads as it is:
#
#     imapproxy check --config config.hcl     is it right, and does what it names answer?
#     imapproxy serve --config config.hcl
#
# A line with # and a blank is explanation. A line with # and no blank after it is
# a setting, commented out because it needs a file or a Consul, or because it is
# another way than the one that stands there: take the # away to use it.
#
# HCL wants each setting on a line of its own. Text stands in quotes, numbers and
# true and false don't. Durations are numbers with units ("500ms", "30s", "31m",
# "1h30m"), shares have their sign ("50%"), networks are "10.0.0.0/8" or, for a
# single host, "10.0.0.1". Names of files are relative to this file's folder.
# env("NAME") is a variable of the environment (it must be set), file("PATH") the
# text of a file without the line break at its end; both work wherever text does.
#
# After a change: kill -HUP. A file with a mistake in it changes nothing and says
# why. What needs a restart says so below; everything else holds at once, for
# sessions that are there already as far as that makes sense. See
# docs/configuration.md for signals, reload and exit codes.


# The name that clients know the proxy by. It stands in the greeting and tells a
# backend who is calling.
# Default: "", the machine's own name.
hostname = "imap.example.org"


# One block for each address that clients connect to, each with a name of its own,
# which logs, metrics and the admin API use. At least one is needed. To add or remove
# a listener, or to change its address or tls, needs a restart.

# For trying out: no TLS, and for clients on this machine only.
listener "local" {
  # Host and port to listen on; without a host all addresses of the machine.
  # Required.
  address = "127.0.0.1:1143"

  # "implicit": TLS from the first byte (port 993). "starttls": the client asks for
  # it (port 143); until it does, the proxy says LOGINDISABLED. "none": no TLS.
  # Default: "implicit".
  tls = "none"

  # Networks of IMAP proxies that stand in front of this one. How many further proxies
  # a login may pass (x-proxy-ttl in ID) is believed from there; from anywhere else
  # it counts only where it is less than the proxy's own 5.
  # Default: [], none.
  #trusted_proxies = ["10.0.0.0/8"]

  # Networks from which passwords may come without TLS, even though others on the
  # way can read them. Clients of other networks see LOGINDISABLED until TLS is on.
  # Default: [], none.
  cleartext_from = ["127.0.0.0/8", "::1/128"]
}

#listener "imaps" {
  #address = ":993"
  #tls     = "implicit"

  # A certificate with its chain, and its key, both PEM. Several blocks: the one that
  # matches the name that the client asked for (SNI) is used, else the first. The
  # files are read again when they change, without dropping a session.
  # Required with tls = "implicit" and "starttls".
  #certificate {
    # Required.
    #cert_file = "/etc/imapproxy/fullchain.pem"
    # Required. Only the proxy should be able to read it.
    #key_file = "/etc/imapproxy/privkey.pem"
  #}

  # The oldest TLS version that is spoken: "1.2" or "1.3". Mail programs of before
  # 2020 often don't know 1.3.
  # Default: "1.2".
  #min_version = "1.2"

  # For a load balancer in front that says which client it speaks for (PROXY protocol, v1 and
  # v2). Connections from the trusted networks must start with that header, and all
  # that follows (limits, logs, cleartext_from, what the backend is told) goes by
  # the address in it. From anywhere else the header is a protocol error: otherwise
  # any client could claim another's address.
  # Without the block: no PROXY protocol.
  #proxy_protocol {
    # Required.
    #trusted = ["10.0.0.0/8"]
  #}
#}

#listener "imap" {
  #address = ":143"
  #tls     = "starttls"
  #certificate {
    #cert_file = "/etc/imapproxy/fullchain.pem"
    #key_file  = "/etc/imapproxy/privkey.pem"
  #}
#}


# How the name that a client gives becomes the user's one name, by which everything
# goes: passwords, backend, limits, logs.
users {
  # Appended, with an @, to names that have none.
  # Default: "", names stay as they are.
  default_domain = ""

  # Alice, ALICE and alice are the same user. Where they aren't, say false: the
  # proxy would otherwise give the backend a name that it doesn't know.
  # Default: true.
  lowercase = true

  # How long the word of a source of credentials is taken for users who are logged in: it is
  # asked again when a session comes back from being parked, and about those that don't. A
  # passwd-file that has changed counts at once, whatever this says. With auth "backend" a
  # parked session comes back by a login of its own, not by a warm connection, when the
  # backend was last asked so long ago. Shorter costs the backends logins, longer keeps locked out
  # users in. "0s": at each resume; those that don't come back are then asked about every 5 minutes.
  # Default: "5m".
  recheck = "5m"

  # Characters that no name may have that comes from a client. Dovecot takes alice*admin
  # for alice, logged in by the master user admin: such a login passes by this proxy's
  # limits and its routing. Write the backends' auth_master_user_separator; "" lets all through.
  # Default: "*".
  refuse_separators = "*"
}


# Who checks passwords. Several blocks: the first that knows the user decides; a
# password that it refuses isn't tried on the next. Without any: auth "backend" {}.

# A file in Dovecot's passwd-file form, user:{SCHEME}hash[::::::extra fields], read
# again when it changes. Hashes: {BLF-CRYPT}, {ARGON2ID}, {SHA512-CRYPT} and what
# else crypt(3) knows, {PLAIN} for tests. The extra field backend=ID is the user's
# placement (see routing). Use it with backend_login mode "master"; with mode "user"
# each password must be the same here and on the backend, and you are warned.
#auth "passwd_file" {
  # Required.
  #path = "users.passwd"
#}

# The user's backend checks the password: the proxy logs in with what the client
# gave and passes the verdict on. A backend that can't be reached is NO [UNAVAILABLE],
# never a wrong password. It knows every user, so it stands last.
auth "backend" {}


# With which credentials the proxy logs in to a backend.
backend_login {
  # "user": with the client's own name and password, which stay in memory for as long
  # as its session does. "master": as a master user who may act for others (SASL PLAIN,
  # authorization identity = the user); for users that another source than auth
  # "backend" has accepted. Before its first use, and in `imapproxy check`, it is
  # verified that such a login really yields that user: some servers (Courier) ignore
  # the authorization identity, and every user would see the master's mailbox.
  # Default: "user".
  mode = "user"

  # The master's name. Required with mode "master", refused otherwise.
  # Default: "".
  #username = "proxy"

  # A file that holds the master's password, nothing else; read again at each reload.
  # Required with mode "master", refused otherwise.
  # Default: "".
  #password_file = "master.password"

  # Send the master's password to backends on other machines without TLS. Who can read one
  # such login can open every mailbox, so without this such backends get no logins. Only
  # with mode "master".
  # Default: false.
  #cleartext = true
}


# How to speak to backends. A static backend's own settings come before these. A Consul
# service's meta data tls and server_name do within bounds: who may register a service isn't
# thereby an operator who may read passwords.
backend_defaults {
  # "none", "starttls" or "implicit". With TLS the certificate is always verified: a
  # backend whose certificate doesn't fit is a backend that is down. It is the least for
  # backends from Consul: with "starttls" or "implicit" here an instance with meta tls = "none" is
  # down. "none" sends passwords in the clear, and is warned of for other machines.
  # Default: "none".
  tls = "none"

  # A PEM file with the authorities that may have signed the backends' certificates.
  # Default: "", those that the system trusts.
  #ca_file = "/etc/imapproxy/backends-ca.pem"

  # The name that the backends' certificates must have.
  # Default: "", the host in the backend's address.
  server_name = ""

  # Other names that an instance in Consul may name as server_name in its meta data, and (where
  # server_name above is empty) that its address may have as host: "mail1.example.org", or
  # "*.example.org" for each name with one more label. An instance with another name is down.
  # Say it where certificates are signed by an authority that signs for others, too.
  # Default: [], meta data may name none but the one above; addresses may have any host.
  server_names = []

  # How long a connection may take to come about. A client is waiting meanwhile.
  # Default: "3s".
  connect_timeout = "3s"

  # How long everything from there to the answer to the login may take, TLS included.
  # Generous, since servers delay the answer to a wrong password on purpose.
  # Default: "20s".
  login_timeout = "20s"

  # Addresses of this machine that connections to backends come from, in turn. Each adds
  # the 28,000 connections to one backend that there are local ports for, and what a
  # backend allows one address (Dovecot's mail_max_userip_connections). Where backends
  # trust the proxy by its address, they have to trust each of these.
  # Default: [], whichever address the system chooses.
  #source_addresses = ["192.0.2.10", "192.0.2.11"]
}


# Where backends come from: exactly one block. There is one pool of backends.

# A fixed list, each named by its label. The proxy probes them itself, to know which
# of them are up. Changes hold at once: a backend that is removed from the list gets
# no new users.
discovery "static" {
  backend "b1" {
    # Host and port. Required.
    address = "127.0.0.1:11143"

    # Its share of the users, compared with the others' weights, 0 to 65535. With 0
    # it keeps the users that it has and gets no new ones.
    # Default: 100.
    weight = 100

    # As in backend_defaults, for this backend alone.
    # Default: "", what backend_defaults says.
    tls = "none"

    # As in backend_defaults, for this backend alone.
    # Default: "", what backend_defaults says.
    #server_name = "b1.example.org"

    # Shown by the admin API; nothing follows from them yet.
    # Default: [].
    #tags = ["ssd"]
  }

  # A probe connects, reads the greeting and logs out.
  probe {
    # Time between two probes of a backend.
    # Default: "5s".
    interval = "5s"

    # A probe that takes longer has failed.
    # Default: "3s".
    timeout = "3s"

    # So many successes in a row and a backend is up.
    # Default: 2.
    rise = 2

    # So many failures in a row and it is down.
    # Default: 3.
    fall = 3
  }
}

# The instances of a service in Consul, followed by a blocking query: which one joins,
# leaves, fails its checks (down) or is in maintenance (draining: pinned users stay,
# and no new ones come) is known within milliseconds. While Consul can't be reached, or
# answers with an empty list all of a sudden, the last good set of backends stays.
# An instance's weight, tags, and the meta data tls and server_name are taken from
# Consul.
#discovery "consul" {
  # Host and port, or a URL, of the local agent.
  # Default: "", the variable CONSUL_HTTP_ADDR, else 127.0.0.1:8500.
  #address = "127.0.0.1:8500"

  # The service whose instances are the backends. Required.
  #service = "imap"

  # Only instances with all of these tags.
  # Default: [].
  #tags = ["production"]

  # Default: "", the agent's own.
  #datacenter = "dc1"

  # Consul Enterprise only.
  # Default: "", the variable CONSUL_NAMESPACE, else "default".
  #namespace = "mail"

  # Consul Enterprise only.
  # Default: "", the variable CONSUL_PARTITION, else the agent's own.
  #partition = "mail"

  # A file with an ACL token. It needs service:read and node:read; key_prefix:read on
  # imapproxy/placement/ for placements; service:write on its own name to register.
  # Default: "", the variables CONSUL_HTTP_TOKEN_FILE and CONSUL_HTTP_TOKEN.
  #token_file = "consul.token"

  # TLS towards the agent: authorities to trust, and our own certificate and key.
  # Default: "", the variable CONSUL_CACERT, else the system's authorities.
  #ca_file = "consul-ca.pem"
  # Default: "", the variable CONSUL_CLIENT_CERT.
  #cert_file = "consul-client.pem"
  # Default: "", the variable CONSUL_CLIENT_KEY.
  #key_file = "consul-client.key"

  # A file in which the proxy keeps the last good set of backends, for a start while
  # Consul is away: without it no user can log in until Consul answers. It is written
  # when the set changes, read at a start only, and gives way to the first live answer.
  # The proxy's user must be able to write the folder, and other users mustn't: the file
  # says where passwords are sent (docs/routing.md).
  # Default: "", none is kept.
  #cache_file = "/var/lib/imapproxy/backends.json"
#}


# Which backend a user belongs to: his placement, else his pin, else a choice by
# weight that each proxy makes alike (rendezvous hashing). All sessions of a user
# share one backend, always.
routing {
  # "shared": each backend serves every mailbox, so any will do, and when one is down
  # its users go to the next. "separate": each user's mail is on one backend, named
  # by his placement (auth "passwd_file": the field backend=ID; or Consul's KV store:
  # imapproxy/placement/USER), and he never goes anywhere else: on a wrong backend
  # he'd see an empty mailbox, and his mail program would delete its copies. Without
  # a placement, or while his backend is down: NO [UNAVAILABLE].
  # Required, since a wrong guess loses mail.
  storage = "shared"

  # A user stays pinned to his backend for so long after his last session, so that a
  # phone that comes back finds warm caches, even though the fleet has changed.
  # Default: "15m".
  pin_grace = "15m"

  # With shared storage, when a user's backend is down or refuses: for so long his
  # sessions that are still on it hold him there, and new logins get NO [UNAVAILABLE];
  # then he goes to the next backend and those sessions are ended. Without such
  # sessions he goes at once. Shorter moves users for every restart of a backend;
  # longer keeps them waiting. "0s": no login waits.
  # Default: "30s".
  failover_after = "30s"

  # When more than this share of the backends goes down at once, it is more likely
  # that the checks are wrong than the backends: the last good set stays in use.
  # Default: "50%". "100%" turns it off.
  panic_threshold = "50%"
}


# The proxy itself as a service in Consul, with the access that discovery "consul"
# has, or the CONSUL_HTTP_* variables. A refusal is a warning, never the end. Two
# proxies under one name are warned of: they don't share their pins yet.
# Without the block: off.
#register {
  # Default: "imapproxy".
  #service = "imapproxy"

  # Host and port that others reach this proxy at.
  # Default: "", the first listener's.
  #address = "192.0.2.10:993"

  # Default: [].
  #tags = ["edge"]
#}


# What clients may take. Who is refused gets a BYE that says why, and is counted.
limits {
  # Sessions that have logged in. Each takes about 30 kB and two file descriptors, one
  # while it is parked.
  # Default: 0, as many as the process may have files open (LimitNOFILE= in systemd, ulimit -n).
  # Whatever is said here, some files are kept for logs, Consul, the admin address and
  # backends: 64 and a thirty-second of all. Half of them sessions don't get for their
  # connections to backends, either; a login that would need one is told [UNAVAILABLE].
  connections = 0

  # Connections that haven't logged in, apart from those that have: silent ones keep no
  # user out. When there are more, the oldest one of the network (IPv4: /24, IPv6: /56)
  # that has most of them is ended, and one whose password is being looked at after all others of it.
  # From networks from which users have logged in none is ended while they have no more than half.
  # Each takes about 30 kB under TLS, and up to 50 kB with half of a command sent.
  # Default: 0, a quarter of the files that are there for clients, 16384 at most (about half a
  # GB). Whatever is said here, they are fewer when sessions that have logged in have left fewer files.
  prelogin_connections = 0

  # Sessions from one client address (IPv6: from one /64).
  # Default: 0, no limit.
  per_ip = 0

  # Sessions of one user. A login counts once its password is proved, so that wrong
  # passwords don't use up the user's sessions.
  # Default: 0, no limit.
  per_user = 0

  # Logins at a time at one backend, where it is the backend that checks the password: further
  # ones wait, networks in turn, and one network has a quarter of them at most. Networks from
  # which users have logged in lately have as many places of their own. A guesser
  # holds one of the backend's login processes, at Dovecot for up to 15 s; keep
  # this, times the number of proxies, well under Dovecot's process_limit of imap-login (100) and
  # Cyrus's maxchild. Logins on a waiting connection or as a master don't count.
  # Default: 32.
  unproved_logins = 32

  # From the connection to the end of the login, TLS included; after it, BYE.
  # Default: "60s".
  prelogin_timeout = "60s"

  # A session that says nothing for so long is ended. RFC 9051 §5.4 forbids less than
  # 30 minutes, and you are warned of it; clients in IDLE renew it at 29.
  # Default: "31m".
  idle_timeout = "31m"

  # How long the answer to a wrong password waits, which is what makes guessing slow.
  # Default: "2s".
  auth_failure_delay = "2s"
}


# Taking backend connections away from clients that idle, and giving them back when
# they are needed; the clients can't tell (docs/parking.md). `imapproxy check` says
# how each backend's mailboxes would be watched and what to switch on there;
# `imapproxy sessions` what keeps a session from being parked.
park {
  # false: each session keeps its backend connection for as long as it lasts. Switched
  # off by a reload, parked sessions get theirs back, some hundreds in a second
  # (resume_concurrency and resume_rate hold), and their clients notice nothing. Switched
  # on by a reload it holds for sessions to come.
  # Default: true.
  enabled = true

  # A client in IDLE is parked when it has said nothing for so long. Shorter frees
  # connections sooner, but parks clients that come straight back, and each return
  # costs the backend a SELECT, perhaps a login. "0s" isn't "never": it parks each client
  # the moment that it is in IDLE, which you are warned of. A change holds at once, as
  # with all of park that needs no restart.
  # Default: "60s".
  linger = "60s"

  # A client that isn't in IDLE is parked when it has said nothing for so long; only
  # one with no mailbox selected, or that works by UIDs and counts no
  # mod-sequences, on a backend with QRESYNC. "0s": never.
  # Default: "5m".
  quiet_after = "5m"

  # How the proxy hears of changes in the mailboxes of parked sessions. "push": the
  # backends post events (see below), no connection is held. "notify": one connection
  # for each user, where the backend has NOTIFY. "idle": one for each user and
  # mailbox. "poll": none, and a login and a look once a minute. "auto": push for the
  # user's own mailboxes if it is configured; else NOTIFY for all but INBOX; else IDLE.
  # What a backend or a mailbox can't have (shared mailboxes: no push, no NOTIFY) is
  # replaced by the next in that order.
  # Default: "auto". A change needs a restart.
  watch = "auto"

  # Parked clients in IDLE are told "* OK Still here" so often, each at another
  # moment. It keeps their NAT's entry alive: longer loses clients behind impatient
  # ones, shorter wakes phones. Where phones' batteries count, as with Dovecot's
  # imap_idle_notify_interval, say "29m"; "0s" tells them nothing but what happens. It
  # doesn't count as the client's life: idle_timeout goes on.
  # Default: "2m".
  keepalive = "2m"

  # Each mailbox with parked sessions is looked at so long after the last time even if
  # no hint has said that something changed there: the most that a lost hint delays mail. It
  # costs the backend one EXAMINE each time and, but for mailboxes watched by IDLE, a
  # login for each user: every 5 minutes that was a quarter more CPU for the backends than
  # every 15 (docs/performance.md).
  # Default: "15m". A change needs a restart.
  sweep_every = "15m"

  # A connection that a parked or ended session leaves behind waits so long for
  # its user's next need of one, which spares the backend a login (1 to 6 ms of CPU).
  # Until then it counts on the backend, and a user's rights may be applied to it as
  # they were; one that has logged in an hour ago or longer isn't kept, and one on which
  # the proxy itself has looked for changes waits a tenth as long. Where another
  # source than the backend has the passwords, the backend isn't asked at such a login what
  # else it has against it (Dovecot's allow_nets). "0s": none waits. With 30s the
  # backends needed a quarter more CPU than without parking, with 2m a tenth more, with 5m
  # as much or up to a fifth less (docs/performance.md). A change holds at once.
  # Default: "5m".
  warm_for = "5m"

  # How many may wait for one user, and how many in all; the one that has waited
  # longest goes first. Each is an open file here and a process or so on its backend.
  # A change holds at once.
  # Default: 4.
  warm_per_user = 4
  # Default: 0, an eighth of the files that the process may have open, 1024 at least.
  warm_connections = 0

  # How many connections to one backend there may be, those of sessions and of watches
  # included, before none waits there: a login at a backend that has as many processes or
  # connections as it allows (Cyrus's maxchild, Dovecot's process_limit) would have to wait
  # for one of them. Sessions themselves aren't bounded by it. With 0 it is learnt: where
  # a backend has no room for a login, waiting connections to it are closed and what there
  # were then is the bound, which rises again slowly. A change holds at once.
  # Default: 0, learnt.
  backend_connections = 0

  # With auth "backend": for so long after a login at the backend the same password
  # from the same network (IPv4: /24, IPv6: /64) may be given such a connection without
  # the backend being asked about it again; say "0s" if it lets users in from single
  # addresses only. A password that was changed works for as long, as it does in a
  # session that is open (or with Dovecot's auth_cache_ttl); one that the backend has
  # refused since doesn't. "0s": the backend is always asked, and a login never spared.
  # A change holds at once.
  # Default: "5m".
  auth_cache_for = "5m"

  # Where a backend has no QRESYNC, a mailbox is compared message by message, which
  # costs the backend a FETCH of all flags at each change. Sessions in mailboxes with
  # more messages than this aren't parked there.
  # Default: 10000. A change needs a restart.
  max_diff_messages = 10000

  # How many sessions may be given back their connections at a time on one backend,
  # and how many in a second; the others wait, users in turn, and a quarter of the
  # places at most is one user's. They bound what a backend that has just come back
  # has to stand. 0 is no limit of the rate.
  # Default: 32.
  resume_concurrency = 32
  # Default: 0.
  resume_rate = 0

  # Push events: backends post to /v1/events what happens in mailboxes
  # (docs/push-events.md), so that parked sessions hold no connection there at all.
  # They are taken while enabled = false, too, and then lead to nothing. Without the
  # block: none.
  #events {
    # Host and port of their own for events, plain HTTP.
    # Default: "", the admin address; /v1/events there asks for the token below, not
    # for admin's. A change needs a restart.
    #address = "10.0.0.5:8144"

    # A file with the token that senders must know, 16 characters or more; several
    # lines while it is being changed. It is read again at each reload. Required.
    # Default: "". Another name needs a restart.
    #token_file = "events.token"
  #}
}


# What is told about all this. Metrics and logs never hold a password. With nothing
# configured, traces cost nothing; an endpoint that is down or stuck never slows
# a session, what can't be sent is dropped and counted.
telemetry {
  log {
    # A file that logs are appended to; it is made where it isn't there. SIGHUP opens it
    # anew, also when the configuration has a mistake, so that logrotate can move it away
    # (docs/operations.md).
    # Default: "", standard error.
    #file = "/var/log/imapproxy/imapproxy.log"

    # "text" for people, "json" for programs.
    # Default: "text". A change needs a restart.
    format = "text"

    # The least that is said: "debug", "info", "warn" or "error". Failed logins, which
    # fail2ban reads, are warnings.
    # Default: "info".
    level = "info"
  }

  traces {
    # URL of an OTLP/HTTP endpoint, http://127.0.0.1:4318 for example; without a path
    # /v1/traces is meant.
    # Default: "", off. A change needs a restart.
    endpoint = ""

    # HTTP headers that go with it, for example { "authorization" = file("otlp.token") }.
    # Default: {}. A change needs a restart.
    headers = {}

    # The share of logins and commands that leave a trace. What failed or was slow
    # always does.
    # Default: "1%".
    sample = "1%"

    # A command or login that takes longer is slow. "0s": nothing is.
    # Default: "2s".
    slow = "2s"
  }

  metrics {
    # Serve /metrics on the admin address, in Prometheus' form; docs/metrics.md lists
    # what stands there.
    # Default: true. A change needs a restart, as with all of metrics.
    prometheus = true

    # URL of an OTLP/HTTP endpoint to push the same to; without a path /v1/metrics.
    # Default: "", off.
    endpoint = ""

    # HTTP headers that go with it.
    # Default: {}.
    headers = {}

    # Time between two pushes.
    # Default: "60s".
    interval = "60s"
  }
}


# The HTTP API that `imapproxy status`, `backends` and `sessions` call, with /healthz,
# /readyz and /metrics (docs/admin.md). It shows who is logged in from where.
admin {
  # Host and port; "" turns it off. A change needs a restart.
  # Default: "127.0.0.1:8143".
  address = "127.0.0.1:8143"

  # A file with the token that callers must send (Authorization: Bearer …). Required
  # where other machines can reach the address. A change needs a restart.
  # Default: "", no token.
  #token_file = "admin.token"
}


# What SIGTERM does: no new clients, and BYE to those who are there, spread over the
# drain time, so that they don't all come back in the same second.
shutdown {
  # Default: "30s".
  drain = "30s"
}

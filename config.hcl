# The settings of imapproxy: the meaning, the consequences and the default of each.
# This file can be loaded as it is:
#
#     imapproxy check --config config.hcl     validates it and tests everything that it names
#     imapproxy serve --config config.hcl
#
# A line with # and a blank is an explanation. A line with # and no blank after it is
# a setting that is commented out, because it needs a file or Consul, or because it is
# an alternative to another setting. Remove the # to use it.
#
# HCL requires each setting on a line of its own. Text is quoted; numbers,
# true and false aren't. Durations are numbers with units ("500ms", "30s", "31m",
# "1h30m"), percentages have their sign ("50%"), networks are "10.0.0.0/8" or, for a
# single host, "10.0.0.1". File names are relative to this file's directory.
# env("NAME") is the value of an environment variable, which must be set. file("PATH") is
# the text of a file without the line break at its end. Both work in place of any text.
#
# After a change, send SIGHUP (kill -HUP). If the file has a mistake, all settings stay
# and the log says why. A setting that needs a restart says so below. Every other change
# applies at once, also to existing sessions where possible. See
# docs/configuration.md for signals, reload and exit codes.


# The name by which clients know the proxy. The greeting has it, and the proxy sends it
# to backends (ID).
# Default: "", the machine's own name.
hostname = "imap.example.org"


# One block for each address that clients connect to. Each has a name of its own,
# which logs, metrics and the admin API show. At least one is required. Adding or removing
# a listener, or changing its address or tls, needs a restart.

# For trying out: no TLS, and only for clients on this machine.
listener "local" {
  # Host and port to listen on; without a host all addresses of the machine.
  # Required.
  address = "127.0.0.1:1143"

  # "implicit": TLS from the first byte (port 993). "starttls": the client starts
  # TLS (port 143); before that the proxy offers LOGINDISABLED. "none": no TLS.
  # Default: "implicit".
  tls = "none"

  # Networks of webmail, and of IMAP proxies in front of this one. They name the address of the client that they
  # speak for by ID before login (x-originating-ip; Roundcube, Nextcloud Mail and Dovecot's proxies do): limits, delays after wrong passwords, logs and
  # the backend use that address from then on, except for cleartext_from. The proxy also accepts from them how many
  # further proxies a login may pass (x-proxy-ttl in ID). From other networks it ignores addresses, and accepts
  # only a number that is less than its own 5. Any program in these networks can claim any address.
  # Default: [], none.
  #trusted_proxies = ["10.0.0.0/8"]

  # Networks whose clients may send passwords without TLS, although others on the
  # network path can read them. Other clients see LOGINDISABLED until TLS is on.
  # Default: [], none.
  cleartext_from = ["127.0.0.0/8", "::1/128"]

  # true: clients that have logged in may have their connection compressed (COMPRESS=DEFLATE), which
  # takes less data on slow and metered networks, and processor time here (docs/compress.md).
  # Default: false.
  compress = false

  # The number of octets, of those that the proxy has sent to a client last, to which the
  # compressed stream may refer: 0 to 8192. Each compressed session that isn't parked holds
  # them in memory. With a smaller number short answers are compressed less.
  # Default: 8192.
  #compress_history = 8192
}

#listener "imaps" {
  #address = ":993"
  #tls     = "implicit"

  # A certificate with its chain, and its key, both PEM. If there are several blocks, the
  # proxy uses the first that matches the name that the client requested (SNI) and that the
  # client supports, otherwise the first that it supports. So an ECDSA and an RSA certificate may stand side by
  # side for one name, the ECDSA one first. It reloads the files when they change, without ending a session.
  # Required with tls = "implicit" and "starttls".
  #certificate {
    # Required.
    #cert_file = "/etc/imapproxy/fullchain.pem"
    # Required. Only the proxy's user should be able to read it.
    #key_file = "/etc/imapproxy/privkey.pem"
  #}

  # The lowest TLS version: "1.2" or "1.3". Mail programs from before
  # 2020 often don't support 1.3.
  # Default: "1.2".
  #min_version = "1.2"

  # true: also the suites of TLS 1.2 with CBC, ECDHE-…-AES…-SHA, for programs that know no others (Windows before 10,
  # Android before 5). Attacks on CBC measure the time of answers. docs/security.md lists what is always offered.
  # Default: false.
  #tls12_cbc = false

  # Clients may log in by a certificate of their own in place of a password (AUTHENTICATE
  # EXTERNAL). They are asked for one in the handshake; a client that sends none, or one that isn't good, can
  # still log in by a password. Needs backend_login { mode = "master" } and a source that can tell
  # without a password whether a user may log in (docs/authentication.md, "Client certificates"). The files
  # are read again when they change.
  # Without the block: clients aren't asked for a certificate.
  #client_certificates {
    # The certificates of the authorities that issue them, PEM.
    # Required.
    #ca_file = "/etc/imapproxy/users-ca.pem"

    # The authorities' revocation lists, PEM: one for each in ca_file. With a list that is over no
    # certificate of its authority is good. Revoked certificates' sessions end.
    # Default: "", no certificate is revoked.
    #crl_file = "/etc/imapproxy/users-crl.pem"

    # Where the user's name is in a certificate: "san_email" (subject alternative name, email), "san_upn" (its user
    # principal name, which Active Directory's authority writes), "subject_email" (emailAddress of the subject) or
    # "common_name" (its CN). It must be there exactly once.
    # Default: "san_email".
    #name = "san_email"
  #}

  # For a load balancer in front that sends the client's address (PROXY protocol, v1 and
  # v2). Connections from the trusted networks must start with that header. Limits, logs,
  # cleartext_from and the backend's log use the address in it. From other networks the
  # header is a protocol error; otherwise any client could claim another client's address.
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

# Behind a load balancer that ends the clients' TLS.
#listener "balanced" {
  #address = "10.0.0.5:1993"
  #tls     = "none"
  #proxy_protocol {
    #trusted = ["10.0.0.1"]

    # true: the load balancer ends TLS. If a header of version 2 says that the client uses TLS (HAProxy:
    # send-proxy-v2-ssl), it counts as a client with TLS, and may send passwords. This needs
    # tls = "none" or "starttls". Nothing protects the connection from the load balancer to the proxy then.
    # The -PLUS mechanisms of SCRAM aren't offered to such a client.
    # Default: false.
    #tls_from_proxy = true
  #}
#}


# How the proxy normalises the name that a client sends. Passwords, routing, limits and
# logs use the normalised name (docs/authentication.md).
users {
  # Appended, with an @, to names without @.
  # Default: "", names stay as they are.
  default_domain = ""

  # true: Alice, ALICE and alice are the same user. Set false if the backends distinguish
  # them; otherwise the proxy would send a backend a name that the backend doesn't know.
  # Default: true.
  lowercase = true

  # How long the answer of a credential source holds for users who are logged in. After
  # that the proxy asks again: when a parked session resumes, and also about parked sessions
  # that don't resume. A changed passwd-file applies at once. With auth "backend" a
  # parked session resumes by a login of its own, not by a warm connection, if the
  # backend was last asked this long ago. A shorter time costs the backends logins; a longer
  # one keeps locked users logged in for longer. "0s": ask at each resume; parked
  # sessions that don't resume are then checked about every 5 minutes.
  # Default: "5m".
  recheck = "5m"

  # Characters that a client's user name may not contain. Dovecot interprets alice*admin
  # as alice, logged in by the master user admin; such a login bypasses this proxy's
  # limits and routing. Set it to the backends' auth_master_user_separator; "" allows all.
  # Default: "*".
  refuse_separators = "*"

  # With scram in an auth block: a file with 32 random characters or more, the same on each proxy
  # (openssl rand -base64 32). From them and the user's name the proxy makes up keys for users who have none,
  # so that SCRAM doesn't show which users exist. Each reload reads the file again.
  # Default: "".
  #scram_secret_file = "scram.secret"
}


# The sources that check passwords. The proxy asks the blocks in their order; the first
# that knows the user decides, and a password that it refuses isn't tried on the next.
# Without a block: auth "backend" {}. Several blocks of one kind need names (letters, digits, - and _):
#   auth "ldap" "staff" {
#   }
#   auth "ldap" "students" {
#   }
# Metrics, logs and imapproxy check call them ldap.staff and ldap.students.

# A file in Dovecot's passwd-file format, user:{SCHEME}hash[::::::extra fields]. The proxy
# reloads it when it changes. Schemes: {BLF-CRYPT}, {ARGON2ID}, {SHA512-CRYPT} and others
# (docs/authentication.md), {PLAIN} for tests. The extra field backend=ID is the user's
# placement (see routing). Use it with backend_login mode "master". With mode "user"
# each password must be the same here and on the backend; the proxy warns about that.
#auth "passwd_file" {
  # Required.
  #path = "users.passwd"

  # The mechanisms of SCRAM by which the file's users may log in: "SCRAM-SHA-256", "SCRAM-SHA-1". Under
  # TLS their -PLUS are offered as well. Needs {SCRAM-SHA-256} or {SCRAM-SHA-1} as the users' scheme,
  # backend_login mode "master", and users { scram_secret_file }.
  # Default: [].
  #scram = ["SCRAM-SHA-256"]
#}

# An HTTP service, asked by the protocol of nginx's mail proxy (auth_http): the service of such a
# proxy works here unchanged. It may name the user's backend, another user name, and the
# password for the backend (docs/authentication.md).
#auth "http" {
  # Where the service is, http:// or https://. Required.
  #url = "http://127.0.0.1:9000/auth"

  # Headers that are sent with each request, such as a secret by which the service knows
  # the proxy (nginx: auth_http_header).
  # Default: {}.
  #headers = { "X-Auth-Key" = "…" }

  # A PEM file with the certificate authorities for the service's certificate.
  # Default: "", the authorities that the system trusts.
  #ca_file = "/etc/imapproxy/auth-ca.pem"

  # How long a login may wait for the answer. After that it ends with NO [UNAVAILABLE].
  # Default: "5s".
  #timeout = "5s"

  # The largest number of requests at the same time. Half of them are for client networks from which
  # a user has logged in lately, half for all others; one network has at most half of such a half.
  # Default: 32.
  #concurrency = 32
#}

# An LDAP directory (OpenLDAP, 389, Active Directory). Either user_dn gives the DN of the user's
# entry, and the proxy binds as this entry at once; or the proxy first searches below base with filter, as
# bind_dn, and then binds as the entry found. In user_dn and the filters %u is the normalised
# name, %n its part before the @, %d its part after the @, %% a percent sign. The proxy escapes
# special characters of a name (docs/authentication.md).
#auth "ldap" {
  # ldap://host[:port] or ldaps://host[:port]. Required.
  #url = "ldaps://ldap.example.org"

  # true: TLS by StartTLS, with an ldap:// URL.
  # Default: false.
  #start_tls = false

  # A PEM file with the certificate authorities for the directory's certificate.
  # Default: "", the authorities that the system trusts.
  #ca_file = "/etc/imapproxy/auth-ca.pem"

  # The template of a user's DN, such as "uid=%n,ou=people,dc=example,dc=org".
  # Default: "".
  #user_dn = ""

  # Where users' entries are, and which one is the user's.
  # Default: "".
  #base = "ou=people,dc=example,dc=org"
  # Default: "".
  #filter = "(&(objectClass=inetOrgPerson)(mail=%u))"

  # The DN that the search is bound as, and a file that contains only its password. Without them the proxy
  # searches anonymously. Each reload reads the file again.
  # Default: "".
  #bind_dn = "cn=imapproxy,dc=example,dc=org"
  # Default: "".
  #password_file = "ldap.password"

  # A filter that the entry of a user who may log in matches; the accounts of all others are locked.
  # Default: "", all may.
  #allow = "(!(employeeType=inactive))"

  # A filter that finds an entry below group_base if the user may log in. %D is the user's DN.
  # Default: "", all may.
  #group_base = "ou=groups,dc=example,dc=org"
  # Default: "".
  #group_filter = "(&(cn=imap)(member=%D))"

  # The attribute with the name under which the user is logged in, and the one with the backend
  # that the user belongs to.
  # Default: "", the client's name.
  #user_attribute = "uid"
  # Default: "", no placement.
  #placement_attribute = "mailHost"

  # The attribute with the users' keys for SCRAM, {SCRAM-SHA-256}…, one value for each mechanism, and the
  # mechanisms that are offered (see auth "passwd_file"). bind_dn must be able to read the attribute. The proxy
  # doesn't bind as the user then: write allow so that no locked account matches.
  # Default: "".
  #scram_attribute = ""
  # Default: [].
  #scram = []

  # How long a login may wait for the directory. After that it ends with NO [UNAVAILABLE].
  # Default: "5s".
  #timeout = "5s"

  # How many logins ask the directory at a time, in halves as auth "http" has them.
  # Default: 32.
  #concurrency = 32
#}

# A database with a row for each user. The proxy compares the password itself, in the schemes of
# a passwd-file (docs/authentication.md).
#auth "sql" {
  # "postgres", "mysql" (MariaDB as well) or "sqlite". Required.
  #driver = "postgres"

  # Where the database is, as the driver has it, without a password:
  #   postgres  postgres://USER@HOST:PORT/DATABASE?sslmode=verify-full
  #   mysql     USER@tcp(HOST:PORT)/DATABASE?tls=true
  #   sqlite    the whole path of the file, which is opened read-only
  # Required.
  #dsn = "postgres://imapproxy@db.example.org/mail?sslmode=verify-full"

  # A file that contains only the password for the database. Each reload reads it again.
  # Default: "".
  #password_file = "sql.password"

  # A PEM file with the certificate authorities for the database's certificate. It needs a DSN that has it verified:
  # sslmode=verify-full (PostgreSQL), tls=true (MySQL, MariaDB).
  # Default: "", the authorities that the system trusts.
  #ca_file = "/etc/imapproxy/auth-ca.pem"

  # The query for a user's row. %u is the normalised name, %n what stands before its @, %d what
  # stands after it. The proxy sends them as parameters, so write them without quotes. It
  # identifies the columns by their names: password, and optionally user, backend,
  # backend_password and allowed. Required.
  #query = "SELECT password, backend FROM users WHERE name = %u"

  # The mechanisms of SCRAM by which users may log in whose column password has their keys (see
  # auth "passwd_file").
  # Default: [].
  #scram = []

  # How long a login may wait for the database. After that it ends with NO [UNAVAILABLE].
  # Default: "5s".
  #timeout = "5s"

  # How many logins ask the database at a time, in halves as auth "http" has them, over at most
  # 16 connections.
  # Default: 32.
  #concurrency = 32
#}

# Dovecot's auth process. It checks passwords with all that Dovecot supports (PAM, Lua, Kerberos, its
# databases). Dovecot needs a listener for the proxy (docs/authentication.md):
#   service auth {
#     unix_listener auth-imapproxy {
#       user = imapproxy
#     }
#   }
#auth "dovecot" {
  # The whole path of the unix socket, or host:port. Over TCP passwords aren't encrypted. Required.
  #address = "/run/dovecot/auth-imapproxy"

  # How long a login may wait for the answer. After that it ends with NO [UNAVAILABLE]. Dovecot
  # delays the answer about a wrong password by up to 2 seconds (its auth_failure_delay).
  # Default: "5s".
  #timeout = "5s"

  # How many logins ask Dovecot at a time, in halves as auth "http" has them.
  # Default: 32.
  #concurrency = 32
#}

# A provider of OAuth 2.0 tokens, for clients that log in with AUTHENTICATE OAUTHBEARER or XOAUTH2. The
# proxy checks a token's signature by the keys that its issuer publishes, or asks the provider about each
# (introspection_url). It needs backend_login { mode = "master" }: a token is no password for a backend.
# The proxy doesn't ask sources of passwords about tokens, and doesn't ask this source about passwords.
#auth "oauth" {
  # The issuer of the tokens, exactly as their iss has it. The proxy finds the issuer's keys by its OpenID
  # configuration (/.well-known/openid-configuration). The proxy refuses tokens of other issuers.
  # Default: "", which needs introspection_url.
  #issuer = "https://id.example.org"

  # Where the keys are, if there is no OpenID configuration.
  # Default: "".
  #jwks_url = "https://id.example.org/keys"

  # The signatures' algorithms that are accepted. Only those with a public key can be.
  # Default: [], which are RS256, PS256, ES256, ES384 and EdDSA.
  #algorithms = ["ES256"]

  # What a token's header has as typ: "at+jwt" where the provider marks access tokens so (RFC 9068).
  # Default: "", anything: an ID token for the same audience is accepted as well.
  #jwt_type = "at+jwt"

  # The provider is asked about each token here (RFC 7662), in place of checking its signature. So a token
  # that was revoked is refused, and tokens needn't be JWTs. issuer, if it is there, is compared with
  # the iss of the answer.
  # Default: "".
  #introspection_url = "https://id.example.org/oauth/introspect"
  # The proxy's client id at this URL, and a file that contains only its secret. Each reload reads the file again.
  # Default: "".
  #client_id = "imapproxy"
  # Default: "".
  #client_secret_file = "oauth.secret"
  # How long the proxy uses an answer for further logins with the same token. "0s": it asks at each login.
  # Default: "1m".
  #cache_for = "1m"

  # What a token must be for: aud has one of audience, azp (or client_id) is one of clients, scope has all
  # of scopes. With issuer alone, audience or clients is required: otherwise a token for any other
  # service of the provider would let its owner's mail be read by that service.
  # Default: [], anything.
  #audience = ["imap"]
  # Default: [], anything.
  #clients = ["thunderbird"]
  # Default: [], anything.
  #scopes = ["mail"]

  # The claim that has the user's name. After normalisation it must be the name that the client sends. With
  # "email", a token that says email_verified: false is refused.
  # Default: "email".
  #user_claim = "preferred_username"

  # By how much the provider's clock may differ from the proxy's.
  # Default: "1m".
  #grace = "1m"

  # The certificate authorities of the provider's HTTPS.
  # Default: "", the system's.
  #ca_file = "/etc/imapproxy/auth-ca.pem"

  # How long a login may wait for the provider. After that it ends with NO [UNAVAILABLE].
  # Default: "5s".
  #timeout = "5s"

  # How many logins ask the provider at a time, in halves as auth "http" has them.
  # Default: 32.
  #concurrency = 32
#}

# The user's backend checks the password: the proxy logs in with the client's
# credentials and passes the result on. If the backend can't be reached, the client gets
# NO [UNAVAILABLE], never "wrong password". This source accepts every user name, so it must
# be the last.
auth "backend" {
  # The mechanisms of tokens that are passed on to the backend: "OAUTHBEARER", "XOAUTH2". The backends have to offer
  # them. The proxy doesn't look at such tokens, so it parks a session only if its token is a JWT that is valid for long enough
  # (docs/authentication.md).
  # Default: [], only passwords.
  mechanisms = []
}


# A policy server (weakforced), which is asked whether a login may go on and told how it ended, as Dovecot's
# auth_policy_* settings do it (docs/authentication.md, "The policy server"). Default: there is none.
#auth_policy {
  # Where the server is, http:// or https://. The proxy appends ?command=allow or ?command=report; to a URL
  # that ends with & without the question mark. Required.
  #server_url = "https://wforce.example.org:8084/"

  # A file that contains only a header that is sent with each request, such as Authorization: Basic dXNlcjpwYXNz.
  # Without a colon in it it is the value of X-API-Key. Each reload reads it again.
  # Default: "".
  #server_api_header_file = "auth-policy.header"

  # How long a login waits for an answer, and a report.
  # Default: "2s".
  #server_timeout = "2s"

  # A PEM file with the certificate authorities for the server's certificate.
  # Default: "", the authorities that the system trusts.
  #ca_file = "/etc/imapproxy/auth-ca.pem"

  # What the server is told of a password: the first hash_truncate bits of a hash over the nonce, the user's
  # name, NUL and the password. All programs that report to the server need the same nonce, mechanism
  # ("md5", "sha1", "sha256", "sha512") and number of bits. 0: all bits. With many bits the server's owner could find
  # passwords by trying. hash_nonce_file contains only the nonce. Required.
  #hash_nonce_file = "auth-policy.nonce"
  # Default: "sha256".
  #hash_mech = "sha256"
  # Default: 12.
  #hash_truncate = 12

  # Whether the proxy asks before it checks the password, whether it asks after the password was right, and whether it
  # reports how logins ended.
  # Default: true.
  #check_before_auth = true
  # Default: true.
  #check_after_auth = true
  # Default: true.
  #report_after_auth = true

  # true: logins are refused while the server doesn't answer. false: they go on.
  # Default: false.
  #reject_on_fail = false

  # true: the server's answers are only logged, and no login is refused or delayed.
  # Default: false.
  #log_only = false

  # How many logins ask at a time, in halves as auth "http" has them.
  # Default: 32.
  #concurrency = 32
#}


# The credentials with which the proxy logs in to a backend.
backend_login {
  # "user": the client's own name and password, which stay in memory as long
  # as its session. "master": a master user who may act for others (SASL PLAIN with the
  # user as authorization identity), for users that a source other than auth
  # "backend" has accepted. Before the first use, and in `imapproxy check`, the proxy
  # verifies that such a login really yields that user. Some servers (Courier) ignore
  # the authorization identity; every user would see the master's mailbox there.
  # Default: "user".
  mode = "user"

  # The master's name. Required with mode "master", refused otherwise.
  # Default: "".
  #username = "proxy"

  # A file that contains only the master's password. Each reload reads it again.
  # Required with mode "master", refused otherwise.
  # Default: "".
  #password_file = "master.password"

  # true: send the master's password to backends on other machines without TLS. An attacker
  # who reads one such login can open every mailbox, so with false such backends get no
  # logins. Only with mode "master".
  # Default: false.
  #cleartext = true
}


# How the proxy connects to backends. A static backend's own settings override these. The
# meta data tls and server_name of a service in Consul override them within bounds, since
# the right to register a service isn't the right to read passwords.
backend_defaults {
  # "none", "starttls" or "implicit". With TLS the proxy always verifies the certificate; a
  # backend without a valid certificate is down. For backends from Consul this is the
  # minimum: with "starttls" or "implicit", an instance with meta tls = "none" is
  # down. "none" sends passwords in the clear; for other machines the proxy warns about that.
  # Default: "none".
  tls = "none"

  # A PEM file with the certificate authorities for the backends' certificates.
  # Default: "", the authorities that the system trusts.
  #ca_file = "/etc/imapproxy/backends-ca.pem"

  # The name that the backends' certificates must be valid for.
  # Default: "", the host in the backend's address.
  server_name = ""

  # Other names that an instance in Consul may have as server_name in its meta data and, if
  # server_name above is empty, as the host of its address: "mail1.example.org", or
  # "*.example.org" for each name with one more label. An instance with another name is down.
  # Set it if the certificate authority also signs certificates for others.
  # Default: [], only the server_name above in meta data, and any host in addresses.
  server_names = []

  # "v2": each connection begins with the header of the PROXY protocol, version 2, so that the backend knows the
  # client's address, and whether and how the client uses TLS. Use it for servers that don't take the
  # address from ID, or that have to know about TLS. The backend's listener must expect the header (Dovecot: haproxy = yes; docs/backends.md),
  # and must accept it from the proxies' addresses only. Backends in Consul all have the setting of this block.
  # "none": the client's address is in ID alone.
  # Default: "none".
  send_proxy = "none"

  # How long connecting may take. A client waits for it.
  # Default: "3s".
  connect_timeout = "3s"

  # How long the rest may take, from TLS to the answer to the login. Servers delay the
  # answer to a wrong password on purpose, so don't make it short.
  # Default: "20s".
  login_timeout = "20s"

  # How long a backend may leave a command unanswered before the proxy finds out whether it
  # hangs. Only if a probe of the backend fails as well, discovery says that it is down, or
  # it is silent towards all clients, its connections are given up, and their clients go on
  # with others (docs/failures.md): a long SEARCH goes on for as long as it takes. Where an
  # answer is owed, a backend whose machine or network is gone is noticed within 15 seconds,
  # whatever stands here. With "0s" the proxy waits as long as the client does.
  # Default: "30s".
  stall_after = "30s"

  # Addresses of this machine for connections to backends, used in turn. Each address
  # allows 28,000 connections to one backend (the number of local ports), and adds what a
  # backend allows for one address (Dovecot's mail_max_userip_connections). If backends
  # trust the proxy by its address, they must trust each of these.
  # Default: [], the address that the system chooses.
  #source_addresses = ["192.0.2.10", "192.0.2.11"]
}


# The list of backends: exactly one block. There is one pool of backends.

# A fixed list. The label of each block is the backend's id. The proxy probes the backends
# to learn which of them are up. A change applies at once: a backend that is removed from
# the list gets no new users.
discovery "static" {
  backend "b1" {
    # Host and port. Required.
    address = "127.0.0.1:11143"

    # Its share of the users, relative to the other weights, 0 to 65535. With 0
    # it keeps its users and gets no new ones.
    # Default: 100.
    weight = 100

    # As in backend_defaults, for this backend alone.
    # Default: "", what backend_defaults says.
    tls = "none"

    # As in backend_defaults, for this backend alone.
    # Default: "", what backend_defaults says.
    #server_name = "b1.example.org"

    # As in backend_defaults, for this backend alone.
    # Default: "", what backend_defaults says.
    #send_proxy = "v2"

    # Shown by the admin API; they have no other effect yet.
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

    # A backend is up after this many successes in a row.
    # Default: 2.
    rise = 2

    # A backend is down after this many failures in a row.
    # Default: 3.
    fall = 3
  }
}

# The instances of a service in Consul. The proxy follows them by a blocking query, and
# learns within milliseconds when an instance joins, leaves, fails its checks (down) or is in
# maintenance (draining: pinned users stay, no new ones come). While Consul can't be
# reached, or if it suddenly returns an empty list, the last good set of backends stays.
# Consul provides each instance's weight, tags, and the meta data tls and server_name.
#discovery "consul" {
  # Host and port, or a URL, of the local agent.
  # Default: "", the variable CONSUL_HTTP_ADDR, else 127.0.0.1:8500.
  #address = "127.0.0.1:8500"

  # The service whose instances are the backends. Required.
  #service = "imap"

  # Use only instances that have all of these tags.
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

  # A file with an ACL token. It needs service:read on the service and node:read on all
  # nodes; key_prefix:read on imapproxy/placement/ for placements; service:write on its
  # own name to register. It is read again when Consul refuses the token.
  # Default: "", the variables CONSUL_HTTP_TOKEN_FILE and CONSUL_HTTP_TOKEN.
  #token_file = "consul.token"

  # TLS to the agent: the authorities to trust, and the proxy's own certificate and key.
  # Default: "", the variable CONSUL_CACERT, else the system's authorities.
  #ca_file = "consul-ca.pem"
  # Default: "", the variable CONSUL_CLIENT_CERT.
  #cert_file = "consul-client.pem"
  # Default: "", the variable CONSUL_CLIENT_KEY.
  #key_file = "consul-client.key"

  # A file in which the proxy stores the last good set of backends, for a start while
  # Consul is unavailable. Without it no user can log in until Consul answers. The proxy
  # writes it when the set changes, reads it only at the start, and replaces it by the first
  # live answer. The proxy's user must be able to write the directory, and other users must
  # not, since the file says where passwords are sent (docs/routing.md). With the block cluster
  # it isn't used: a proxy that can't ask the others serves no user.
  # Default: "", no file.
  #cache_file = "/var/lib/imapproxy-lb/backends.json"
#}


# The placement of a domain's users that have none by a source of credentials or by Consul's KV store.
# Write a block for each such domain (docs/routing.md). All proxies of a service need the same blocks.
#domain "example.org" {
  # A backend's name or address, as in the field backend=ID of a passwd-file.
  # Required.
  #placement = "imap1"
#}


# How the proxy chooses a user's backend: the user's placement, else the user's pin, else a
# weighted choice that is the same on each proxy (rendezvous hashing). All sessions of a
# user always share one backend (docs/routing.md).
routing {
  # "shared": each backend serves every mailbox. When a backend is down, its users go to
  # the next. "separate": each user's mail is on one backend, which the user's placement
  # names (auth "passwd_file": the field backend=ID; or Consul's KV store:
  # imapproxy/placement/USER; or the block domain). The proxy never sends the user to another backend: they would
  # see an empty mailbox, and their mail program would delete its copies. A user without
  # a placement, or whose backend is down, gets NO [UNAVAILABLE].
  # Required, since a wrong guess loses mail.
  storage = "shared"

  # How long a user stays pinned to a backend after their last session, so that a
  # phone that reconnects finds warm caches, even if the set of backends has changed.
  # With the block cluster it has no effect: where a user is doesn't depend on the past.
  # Default: "15m".
  pin_grace = "15m"

  # With shared storage, if a user's backend is down or refuses: how long the user's
  # sessions that still have a connection to it keep the user there. New logins get NO
  # [UNAVAILABLE] meanwhile. Then the user goes to the next backend, and those sessions end.
  # A user without such sessions goes at once. A shorter time moves users at every restart of
  # a backend; a longer one keeps them waiting. "0s": no login waits.
  # Default: "30s".
  failover_after = "30s"

  # If more than this share of the backends goes down at once, the checks are more likely to
  # be wrong than the backends: the last good set stays in use.
  # Default: "50%". "100%" switches this off.
  panic_threshold = "50%"

  # With shared storage, a backend whose checks come and go: the second time that it comes
  # back within a short time (the falls are less than five times this apart) it keeps the
  # users who are pinned to it, and gets new ones only after it has been up for so long
  # without a break. While no other backend is up it gets them at once. With the block cluster: a
  # backend whose state or weight has changed keeps it for so long.
  # Default: "30s". "0s" switches this off.
  flap_damp = "30s"
}


# Mailboxes that users of different backends share, with routing.storage = "separate": each
# user sees those of all other users below one name. The backends decide who may do what
# there, and must be configured for it (docs/shared.md). The proxy shares nothing from a
# backend that it hasn't seen to apply these rights. Applies to sessions that log in afterwards.
# Without the block: no such mailboxes.
#shared {
  # The name below which the mailboxes of other users stand: alice's team is
  # shared/alice/team. One level, with the backends' separator at its end. No user may have a
  # mailbox of this name.
  # Default: "shared/".
  #namespace = "shared/"

  # How the proxy opens a user's mail for another one. "master": by SASL PLAIN as the owner, with the
  # other one as the master user, whose rights Dovecot applies then.
  # Default: "master".
  #owner_login = "master"

  # A file that contains only the password with which any user may be a master user. It opens
  # every mailbox of the backends. Each reload reads the file again.
  # Required.
  #password_file = "shared.password"
#}


# Lookups of users' backends by other programs: a user's LMTP, POP3 and ManageSieve connections have to go to the same
# backend as the user's IMAP sessions (docs/routing.md, "Other programs"). Without the block GET /v1/route of the admin API, and
# /v1/route/nginx for nginx's mail proxy, use these defaults, and there is no address for Postfix.
#route {
  # The address for Postfix's lookups, with the protocols of tcp_table(5) and socketmap_table(5). They have no password:
  # any program that can connect to the address can ask for users' backends.
  # Default: "", not at all. A change needs a restart.
  #address = "127.0.0.1:10143"

  # The domains of the users. Postfix is told that it knows no other addresses.
  # Default: []. Needed with an address.
  #domains = ["example.org"]

  # Characters that may end the user's part of an address (Postfix's recipient_delimiter): alice+news@example.org is
  # alice@example.org's.
  # Default: "+". "": none.
  #delimiter = "+"

  # How long an answer is valid. During this time the proxies don't send the user to another backend. Programs must not
  # use the answer for longer.
  # Default: "5s". Takes "1s" to "1m".
  #ttl = "5s"

  # The backends' port for LMTP; their hosts are those of discovery.
  # Default: 24.
  #lmtp_port = 24

  # The backends' port for POP3.
  # Default: 110.
  #pop3_port = 110

  # The backends' port for ManageSieve.
  # Default: 4190.
  #sieve_port = 4190
#}


# Registers the proxy itself as a service in Consul, with the access of discovery
# "consul", or of the CONSUL_HTTP_* variables. If Consul refuses, the proxy logs a warning
# and continues. The entry's id is made of the service, the machine's name, and the address and port
# below. Where the address names no host (":993"), proxies in containers with one host name need
# different ports, or they take each other's entry.
# Without the block: off.
#register {
  # Default: "imapproxy".
  #service = "imapproxy"

  # Host and port at which clients reach this proxy.
  # Default: "", the first listener's.
  #address = "192.0.2.10:993"

  # Default: [].
  #tags = ["edge"]

  # Host and port that other proxies reach this one's admin API at; it is in the
  # entry's meta, as admin.
  # Default: "", the admin block's address with the block cluster, else none.
  #admin_address = "192.0.2.10:8143"

  # Start although another proxy is alive under the service and there is no block cluster. Proxies
  # that don't agree on where users are may have one user on two backends: only for proxies that
  # serve different users.
  # Default: false. Then a second proxy doesn't start, and of several that start at the same
  # time one does.
  #allow_others = true

  # How long Consul keeps the entry of a proxy that was killed and doesn't come back. One
  # that starts again under the same host name, address and port replaces its earlier entry.
  # Default: "1h". Consul takes no less than "1m".
  #deregister_after = "1h"
#}


# Several proxies of the same service. With this block and discovery "consul" they agree on each
# user's backend (docs/cluster.md), and `imapproxy proxies` and `status --cluster` show all of
# them (docs/cluster-view.md). All proxies need the block, with the same service, and the same
# settings in users and routing.storage.
# With discovery "static" they see each other and don't agree: run one proxy for a set of users.
# Without the block: only this proxy. Another one under the same service doesn't start.
# To add or remove the block with discovery "consul" needs a restart.
#cluster {
  # The service's name in Consul (register.service). The proxies agree in the keys below
  # imapproxy/SERVICE/ of Consul's KV, in the datacenter of discovery "consul".
  # A change needs a restart with discovery "consul".
  # Default: "imapproxy".
  #service = "imapproxy"

  # How long a login or a resume waits, and a quarter more, until the proxies agree on where its user is.
  # Then it fails with [UNAVAILABLE]. The same on all proxies: it is also how long the turn of a group of users lasts
  # when they are moved.
  # Default: "10s".
  #agree_within = "10s"

  # What this proxy does when it can't reach Consul for longer than session_ttl. "serve": sessions
  # and logins continue by what was known last. If the other proxies move a user in that time, the user
  # may be on two backends. "hold": it closes all connections to backends before the others may
  # move users; clients stay connected, and their commands and new logins wait.
  # Default: "serve".
  #isolated = "serve"

  # How long a proxy that has died or is cut off counts for the others, at least: they don't move users
  # that it may have for two to three times as long. If it is shorter than an outage of
  # Consul's leader (3 to 17 s), each such outage isolates all proxies.
  # A change needs a restart.
  # Default: "45s". At least "10s".
  #session_ttl = "45s"

  # How many users a second are moved away from a backend that drains, by all proxies together: each
  # is a login at another backend. A drain has its own with --rate. The same on all proxies.
  # Default: 50.
  #move_rate = 50

  # How many users a second are moved to a backend that has come, has come back or has got more weight. 0:
  # no user who is connected is moved; users go there when they log in with no connection left.
  # The same on all proxies.
  # Default: 0.
  #rebalance_rate = 0

  # The admin addresses of the proxies, instead of those in Consul. The list may contain this proxy.
  # Default: [], those in Consul.
  #peers = ["10.0.0.5:8143", "10.0.0.6:8143"]

  # A file with the token that the proxies send to each other, the same on all proxies. The admin
  # API accepts it besides the token of admin.token_file.
  # Default: "", the token of admin.token_file, which then has to be the same on all proxies.
  #token_file = "cluster.token"

  # Use TLS to the other proxies. Each then needs admin.cert_file and admin.key_file. Without TLS
  # the token is sent in the clear, to any address that Consul has under the service.
  # Default: false.
  #tls = true

  # The authorities of the admin APIs' certificates.
  # Default: "", the system's.
  #ca_file = "/etc/imapproxy/backends-ca.pem"

  # The name that all certificates have.
  # Default: "", the host of each address.
  #server_name = "imapproxy.example.org"

  # The time that another proxy may take to answer. A proxy that takes longer is listed with an error.
  # Default: "2s". At most "8s".
  #ask_within = "2s"
#}


# Limits for clients. A client that is refused gets a BYE with the reason, and is counted.
limits {
  # The number of sessions that have logged in. Each takes about 30 kB and two file
  # descriptors; a parked session takes one descriptor.
  # Default: 0, as many as the limit of open files allows (LimitNOFILE= in systemd, ulimit -n).
  # In any case the proxy reserves files for logs, Consul, the admin address and
  # backends: 64 and a thirty-second of all. Connections of sessions to backends may not use
  # half of this reserve either; a login that would need it gets [UNAVAILABLE].
  connections = 0

  # The number of connections that haven't logged in. They are counted apart from sessions
  # that have, so silent clients keep no user out. If there are more, the proxy ends the
  # oldest one of the network (IPv4: /24, IPv6: /56) that has the most; connections whose
  # password is being checked come last. Networks from which users have logged in lose none
  # as long as they have no more than half of the places.
  # Each connection takes about 30 kB under TLS, and up to 50 kB after half of a command.
  # Default: 0, a quarter of the files that clients may use, 16384 at most (about half a
  # GB). In any case there are fewer if sessions have left fewer files.
  prelogin_connections = 0

  # The number of sessions from one client address (IPv6: from one /64). This and per_user
  # count at each proxy by itself: with three proxies a user may have three times as many.
  # Default: 0, no limit.
  per_ip = 0

  # The number of sessions of one user. A login counts after its password is verified, so
  # wrong passwords don't use up the user's sessions.
  # Default: 0, no limit.
  per_user = 0

  # The number of TLS handshakes a minute of one network (IPv4: /24, IPv6: /48) that no login follows. Further connections
  # are closed before their handshake, which costs about as much as a whole login otherwise. A handshake stops counting when
  # its client logs in, and networks from which users have logged in lately have ten times as many. The networks in
  # guess_trusted are exempt: name load balancers there that pass TLS on without the clients' addresses. 0: no limit.
  # Default: 600.
  tls_handshakes = 600

  # The number of logins at a time at one backend whose password the backend has to check.
  # Further logins wait; networks take turns, and one network has at most a quarter of the
  # places. Networks from which users have logged in lately have as many places of their own.
  # An attacker who guesses passwords holds one of the backend's login processes, at Dovecot
  # for up to 15 s. Keep this number, times the number of proxies, well under Dovecot's
  # process_limit of imap-login (100) and Cyrus's maxchild. Logins by a warm connection or as
  # a master don't count.
  # Default: 32.
  unproved_logins = 32

  # How long a client may take from connecting to the end of the login, TLS included. Then
  # it gets BYE.
  # Default: "60s".
  prelogin_timeout = "60s"

  # How long a client may be silent before its session ends. RFC 9051 §5.4 forbids less than
  # 30 minutes; the proxy warns about that. Clients restart IDLE after 29 minutes.
  # Default: "31m".
  idle_timeout = "31m"

  # The delay before the answer to a wrong password, which makes guessing slow.
  # Default: "2s".
  auth_failure_delay = "2s"

  # The longest wait of a login before its password is checked. After several wrong passwords from
  # an address, from a network or for a user each further login waits: first for auth_failure_delay, then for twice
  # as long each time. The longest wait is the smallest of sixteen times auth_failure_delay, this setting, and half of
  # prelogin_timeout. No address and no user is locked out, and
  # addresses from which a user has logged in within 30 days don't wait for others' guesses
  # (docs/authentication.md, "Guessing"). "0s", or auth_failure_delay = "0s": no login waits.
  # Default: "15s".
  guess_delay = "15s"

  # Networks whose logins don't wait, and whose wrong passwords don't count: webmail, other gateways
  # through which many users come, monitoring. Not needed for proxies and load balancers that tell the
  # clients' own addresses.
  # Default: [].
  guess_trusted = []
}


# Parking: the proxy takes backend connections away from idle clients, and gives them back
# when they are needed. Clients don't notice (docs/parking.md). `imapproxy check` shows
# how the proxy would watch each backend's mailboxes and what to switch on there;
# `imapproxy sessions` shows why a session isn't parked.
park {
  # false: each session keeps its backend connection as long as it lasts. If a reload
  # switches parking off, parked sessions get connections, some hundreds a second
  # (within resume_concurrency and resume_rate), and their clients notice nothing. If a
  # reload switches parking on, it applies to new sessions.
  # Default: true.
  enabled = true

  # How long a client in IDLE must be silent before it is parked. A shorter time frees
  # connections sooner, but also parks clients that return at once, and each return
  # costs the backend a SELECT, perhaps a login. "0s" doesn't mean "never": it parks each
  # client as soon as it is in IDLE; the proxy warns about that. A change applies at once, as
  # for all settings of park that need no restart.
  # Default: "60s".
  linger = "60s"

  # How long a client that isn't in IDLE must be silent before it is parked. This applies
  # only to clients with no mailbox selected, and to clients that use UIDs and no
  # mod-sequences on a backend with QRESYNC. "0s": never.
  # Default: "5m".
  quiet_after = "5m"

  # How the proxy learns of changes in the mailboxes of parked sessions.
  # "push": the backends post events (see below); no connection is held.
  # "notify": one connection per user, if the backend has NOTIFY.
  # "idle": one connection per user and mailbox.
  # "poll": no connection; a login and a look once a minute.
  # "auto": push for the user's own mailboxes if it is configured; else NOTIFY for all
  # mailboxes but INBOX; else IDLE.
  # If a backend or a mailbox doesn't support a method (shared mailboxes have no push and no
  # NOTIFY), the proxy uses the next one in this order.
  # Default: "auto". A change needs a restart.
  watch = "auto"

  # How often parked clients in IDLE are sent "* OK Still here", each at another
  # moment. It keeps the client's NAT entry alive. A longer time loses clients behind NAT
  # with short timeouts; a shorter one wakes phones. To save phones' batteries, as with
  # Dovecot's imap_idle_notify_interval, use "29m". With "0s" clients are sent only changes.
  # The line doesn't count as activity of the client: idle_timeout continues.
  # Default: "2m".
  keepalive = "2m"

  # How long after its last look the proxy looks at each mailbox with parked sessions even
  # without a hint. A lost hint delays mail by at most this time. A look costs the backend
  # one EXAMINE and, except for mailboxes watched by IDLE, a login per user. With 5 minutes
  # the backends needed a quarter more CPU than with 15 (docs/performance.md).
  # Default: "15m". A change needs a restart.
  sweep_every = "15m"

  # How long the connection of a parked or ended session stays open ("warm") for its user's
  # next resume or login, which saves the backend a login (1 to 6 ms of CPU).
  # Meanwhile it counts as a connection at the backend, which may apply the user's rights
  # as they were at its login. A connection isn't kept longer than an hour after its login.
  # Connections on which the proxy itself looked for changes are kept for a tenth of this
  # time. If another source than the backend has the passwords, a login by a warm connection
  # skips the backend's other checks (Dovecot's allow_nets). "0s": no connection is kept. With
  # 30s the backends needed a quarter more CPU than without parking, with 2m a tenth more,
  # with 5m as much or up to a fifth less (docs/performance.md). A change applies at once.
  # Default: "5m".
  warm_for = "5m"

  # The number of warm connections for one user, and in all. The one that has waited
  # longest is closed first. Each is an open file here and often a process on its backend.
  # A change applies at once.
  # Default: 4.
  warm_per_user = 4
  # Default: 0, an eighth of the files that the process may have open, 1024 at least.
  warm_connections = 0

  # The number of connections to one backend, those of sessions and watches included, from
  # which no warm connection is kept there. A backend with as many processes or connections
  # as it allows (Cyrus's maxchild, Dovecot's process_limit) would let a login wait until one
  # ends. The setting doesn't limit sessions. With 0 the proxy learns it: if
  # a backend has no room for a login, the proxy closes warm connections to it, and the
  # number of connections at that time is the bound, which then rises slowly. A change applies
  # at once.
  # Default: 0, learned.
  backend_connections = 0

  # With auth "backend": how long after a login at the backend a client with the same
  # password, from the same network (IPv4: /24, IPv6: /64), may get a warm connection without
  # asking the backend again. An old password works for this long after it was changed, as it
  # does in an open session (or with Dovecot's auth_cache_ttl), unless the backend has
  # refused it meanwhile. "0s": the proxy always asks the backend, and saves no login. Use
  # "0s" if the backend admits users from single addresses only. A change applies at once.
  # Default: "5m".
  auth_cache_for = "5m"

  # On a backend without QRESYNC the proxy compares mailboxes message by message, which
  # costs the backend a FETCH of all flags at each change. Sessions in mailboxes with
  # more messages than this aren't parked there.
  # Default: 10000. A change needs a restart.
  max_diff_messages = 10000

  # The number of sessions that resume at a time on one backend, and the number per second.
  # Further sessions wait; users take turns, and one user has at most a quarter of the
  # places. The two settings bound the load on a backend that has just restarted. Rate 0: no
  # limit.
  # Default: 32.
  resume_concurrency = 32
  # Default: 0.
  resume_rate = 0

  # The memory of a backend's processes for one connection, such as "4MiB", from which the
  # admin page, 'imapproxy bill' and imapproxy_park_saved_memory_bytes tell how much memory
  # parking saves. docs/operations.md ("What parking saves") says how to measure it. With "0B" they don't.
  # Default: "0B". A change applies at once.
  backend_process_memory = "0B"

  # Push events: backends post changes of mailboxes to /v1/events
  # (docs/push-events.md), so that parked sessions need no connection there.
  # With enabled = false events are accepted and have no effect. Without the
  # block: no push events. With a cluster block a proxy sends events on to all others.
  #events {
    # Host and port for events only, plain HTTP.
    # Default: "", the admin address; /v1/events there requires the token below, not
    # admin's. A change needs a restart.
    #address = "10.0.0.5:8144"

    # A file with the token that senders must send, 16 characters or more. While you change
    # the token, the file may have several lines, one token each. Each reload reads it again.
    # Required.
    # Default: "". Another file name needs a restart.
    #token_file = "events.token"
  #}
}


# Logs, traces and metrics. They never contain a password. Traces cost nothing if they
# aren't configured. An endpoint that is down or hangs never slows a session; the proxy
# drops and counts what it can't send. Where this file has no endpoint, protocol, headers, ca_file,
# sample or interval, OpenTelemetry's environment variables hold (docs/configuration.md).
telemetry {
  # What logs and traces hold of the names of users and mailboxes and of clients' addresses
  # (docs/security.md, "Names and addresses"). "full": as they are. "hashed": a keyed hash, the
  # same for the same name, so that lines and traces of one user can be found. "none": nothing.
  # fail2ban needs "full". Metrics never have names or addresses.
  # Default: "full". A change needs a restart.
  personal = "full"

  # The key of the hashes, the same on all proxies: the output of `openssl rand -hex 32`.
  # Required if personal is "hashed". A change needs a restart.
  # Default: "".
  #personal_key_file = "personal.key"

  # The address at which people look at a trace, with {trace_id} where the trace's id goes. The
  # admin page and `imapproxy slow` link commands to their traces by it. For example
  # "https://jaeger.example.org/trace/{trace_id}".
  # Default: "", no links.
  trace_url = ""

  log {
    # The log file. The proxy appends to it, and creates it if it doesn't exist. SIGHUP
    # reopens it, even if the configuration has a mistake, so that logrotate can move it
    # (docs/operations.md).
    # Default: "", standard error.
    #file = "/var/log/imapproxy/imapproxy.log"

    # "text" for people, "json" for programs.
    # Default: "text". A change needs a restart.
    format = "text"

    # The lowest level that is logged: "debug", "info", "warn" or "error". Failed logins,
    # which fail2ban reads, have the level "warn".
    # Default: "info".
    level = "info"

    # URL of an OTLP endpoint to which the proxy sends the same lines as well. Without a path the
    # path is /v1/logs. Lines that wait for the endpoint are bounded; those that don't fit are
    # dropped and counted (imapproxy_telemetry_log_records_total).
    # Default: "", off. A change needs a restart.
    endpoint = ""

    # "http" or "grpc", as for traces.
    # Default: "http". A change needs a restart.
    protocol = "http"

    # The certificate authorities of that endpoint.
    # Default: "", those that the system trusts. A change needs a restart.
    #ca_file = "/etc/imapproxy/otlp-ca.pem"

    # Headers of each request.
    # Default: {}. A change needs a restart.
    headers = {}
  }

  traces {
    # URL of an OTLP endpoint, http://127.0.0.1:4318 for example. Without a path the path is
    # /v1/traces.
    # Default: "", off. A change needs a restart.
    endpoint = ""

    # "http": OTLP/HTTP with protobuf. "grpc": OTLP/gRPC, usually port 4317; http:// in the URL
    # means without TLS, and a path has no meaning.
    # Default: "http". A change needs a restart.
    protocol = "http"

    # A PEM file with the certificate authorities for an https:// endpoint.
    # Default: "", the authorities that the system trusts. A change needs a restart.
    #ca_file = "/etc/imapproxy/otlp-ca.pem"

    # Headers of each request, for example { "authorization" = file("otlp.token") }.
    # Default: {}. A change needs a restart.
    headers = {}

    # The share of logins and commands that are traced. Failed and slow ones always are.
    # Default: "1%".
    sample = "1%"

    # A command or login that takes longer than this is slow. "0s": none is.
    # Default: "2s".
    slow = "2s"
  }

  metrics {
    # Serve /metrics on the admin address, in Prometheus' format. docs/metrics.md lists
    # the metrics.
    # Default: true. A change needs a restart, as with all of metrics.
    prometheus = true

    # URL of an OTLP endpoint to which the proxy pushes the same metrics. Without a path the
    # path is /v1/metrics.
    # Default: "", off.
    endpoint = ""

    # "http" or "grpc", as for traces.
    # Default: "http".
    protocol = "http"

    # The certificate authorities of that endpoint.
    # Default: "", those that the system trusts.
    #ca_file = "/etc/imapproxy/otlp-ca.pem"

    # Headers of each request.
    # Default: {}.
    headers = {}

    # Time between two pushes.
    # Default: "60s".
    interval = "60s"
  }
}


# The HTTP API that `imapproxy status`, `backends`, `sessions` and `kick` call, with /healthz,
# /readyz and /metrics (docs/admin.md). It shows which users are logged in, and from which
# addresses.
admin {
  # Host and port; "" switches it off. A change needs a restart.
  # Default: "127.0.0.1:8143".
  address = "127.0.0.1:8143"

  # A file with the token that callers must send (Authorization: Bearer …). Required
  # if other machines can reach the address. A change needs a restart.
  # Default: "", no token.
  #token_file = "admin.token"

  # A file with a second token, for callers that only read: Prometheus, dashboards, people on duty. With
  # this token the proxy refuses calls that change something (kick, drain, pause, …) and profiles. Callers
  # still see users and their addresses. A change needs a restart.
  # Default: "", there is no such token.
  #read_token_file = "admin-read.token"

  # A certificate and its key, PEM files. With them the API uses TLS. A reload reads the files
  # again; a change of their names needs a restart.
  # Default: "", no TLS.
  #cert_file = "/etc/imapproxy/fullchain.pem"
  # Default: "".
  #key_file = "/etc/imapproxy/privkey.pem"
}


# On SIGTERM the proxy accepts no new clients (after lame_duck), and sends BYE to its sessions. It spreads the
# BYEs over the drain time, so that clients don't all reconnect in the same second.
#
# An upgrade (imapproxy upgrade) needs no SIGTERM: a new process takes over the listening
# sockets, and the old one goes on serving its sessions (docs/operations.md, "Upgrade").
shutdown {
  # How long the proxy goes on accepting clients after SIGTERM. From SIGTERM on /readyz answers 503,
  # and the proxy's check in Consul is critical, so that load balancers and Kubernetes send no more
  # clients here; those that come nevertheless are served. Then the listeners close and the drain
  # begins. Set it to longer than these take to notice: with a check every 5 s that has to fail
  # twice, "15s". No reload is possible meanwhile. A second SIGTERM ends the process at once. After
  # an upgrade the old process, which accepts no clients, stops without it.
  # Default: "0s", none; at most "10m". systemd's TimeoutStopSec, Kubernetes'
  # terminationGracePeriodSeconds and Nomad's kill_timeout have to be longer than lame_duck and drain
  # together.
  lame_duck = "0s"

  # Default: "30s".
  drain = "30s"

  # How long the old process serves its sessions after a new one has taken over. It ends idle
  # sessions first, spread over four fifths of this time, each when no command is in progress; it
  # ends the others at the end. Meanwhile both processes use memory. Several hours are possible.
  # Default: "1h"; at most "168h".
  handover = "1h"

  # The unix socket by which the running process hands over to its successor. Only the
  # proxy's user and root may use it. Two proxies on one machine need two of them. A change
  # needs a restart. Default: "", which is handover.sock in the unit's runtime folder
  # (/run/imapproxy); without systemd there is no such folder, and no hand-over.
  #handover_socket = "/var/lib/imapproxy-lb/handover.sock"
}

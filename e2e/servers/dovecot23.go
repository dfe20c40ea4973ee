package servers

// dovecot23 is the configuration for Dovecot 2.3. The settings in "if not .Stock"
// are those in which the tests differ from Debian's limits.
//
//   - acl_user = %u: with a master login the rights are else the master's, who
//     may not even SELECT the user's INBOX.
//   - login_trusted_networks: the proxy's ID command is honoured from there.
//   - anvil-auth-penalty: without it each wrong password costs that address
//     seconds, and all of ours come from one.
const dovecot23 = `
base_dir = {{.Dir}}/run
state_dir = {{.Dir}}/state
log_path = {{.Dir}}/log
instance_name = e2e
protocols = imap
listen = {{.Host}}
ssl = yes
ssl_cert = <{{.Cert}}
ssl_key = <{{.Key}}
disable_plaintext_auth = no
mail_uid = 5000
mail_gid = 5000
first_valid_uid = 5000
mail_home = {{.Mail}}/%n
mail_location = {{.Store}}:~/{{.Store}}
mail_fsync = never
{{if not .Stock}}mail_max_userip_connections = 10000
{{end}}mail_attribute_dict = file:%h/dovecot-attributes
mail_plugins = acl quota
{{if not .Stock}}login_trusted_networks = 127.0.0.1/32
{{end}}auth_mechanisms = plain login
auth_master_user_separator = *
{{if not .Stock}}auth_failure_delay = 0
{{end}}passdb {
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {{.Dir}}/masters
  master = yes
  result_success = continue
}
passdb {
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {{.Dir}}/users
}
userdb {
  driver = passwd-file
  args = username_format=%u {{.Dir}}/users
}
namespace inbox {
  inbox = yes
  separator = /
  mailbox Drafts {
    special_use = \Drafts
    auto = create
  }
  mailbox Sent {
    special_use = \Sent
    auto = create
  }
  mailbox Trash {
    special_use = \Trash
    auto = create
  }
}
namespace shared {
  type = shared
  separator = /
  prefix = shared/%%u/
  location = {{.Store}}:%%h/{{.Store}}
  subscriptions = no
  list = children
}
plugin {
  acl = vfile:cache_secs=0
  acl_user = %u
  acl_shared_dict = file:{{.Mail}}/shared-mailboxes.db
  quota = count:User quota
  quota_vsizes = yes
  quota_rule = *:storage=1G
}
protocol imap {
  mail_plugins = $mail_plugins imap_acl imap_quota{{if .Compress}} zlib imap_zlib{{end}}
  imap_metadata = yes
}
service imap-login {
  inet_listener imap {
    port = {{.Port}}
  }
  inet_listener imaps {
    port = {{.TLSPort}}
    ssl = yes
  }
{{- if not .Stock}}
  service_count = 0
  client_limit = 1000
{{- end}}
}
{{if not .Stock -}}
service imap {
  process_limit = 1024
}
service stats {
  client_limit = 4096
}
service anvil {
  client_limit = 4096
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
service auth {
  client_limit = 4096
}
{{end -}}
`

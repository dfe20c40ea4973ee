package servers

// dovecot24 says the same as dovecot23 in the syntax of Dovecot 2.4, where a
// shared namespace's $user stands for its owner. The versions named in it are
// those of the syntax, which later 2.4 releases go on reading.
const dovecot24 = `
dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
base_dir = {{.Dir}}/run
state_dir = {{.Dir}}/state
log_path = {{.Dir}}/log
instance_name = e2e
protocols {
  imap = yes
}
listen = {{.Host}}
ssl = yes
ssl_server_cert_file = {{.Cert}}
ssl_server_key_file = {{.Key}}
auth_allow_cleartext = yes
mail_uid = 5000
mail_gid = 5000
first_valid_uid = 5000
mail_home = {{.Mail}}/%{user | username}
mail_driver = {{.Store}}
mail_path = ~/{{.Store}}
mail_fsync = never
mail_attribute {
  dict file {
    path = %{home}/dovecot-attributes
  }
}
mail_plugins {
  acl = yes
  quota = yes
}
{{if not .Stock}}login_trusted_networks = 127.0.0.1/32
{{end}}auth_mechanisms {
  plain = yes
  login = yes
}
auth_master_user_separator = *
{{if not .Stock}}auth_failure_delay = 0
{{end}}passdb masters {
  driver = passwd-file
  passwd_file_path = {{.Dir}}/masters
  default_password_scheme = PLAIN
  auth_username_format = %{user}
  master = yes
  result_success = continue
}
passdb users {
  driver = passwd-file
  passwd_file_path = {{.Dir}}/users
  default_password_scheme = PLAIN
  auth_username_format = %{user}
}
userdb users {
  driver = passwd-file
  passwd_file_path = {{.Dir}}/users
  auth_username_format = %{user}
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
  prefix = shared/$user/
  mail_driver = {{.Store}}
  mail_path = %{owner_home}/{{.Store}}
  subscriptions = no
  list = children
}
acl_driver = vfile
acl_cache_ttl = 0
acl_user = %{user}
acl_sharing_map {
  dict file {
    path = {{.Mail}}/shared-mailboxes.db
  }
}
quota "User quota" {
  quota_storage_size = 1G
}
protocol imap {
{{- if not .Stock}}
  mail_max_userip_connections = 10000
{{- end}}
  imap_metadata = yes
  mail_plugins {
    imap_acl = yes
    imap_quota = yes
  }
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
  restart_request_count = unlimited
  client_limit = 1000
{{- end}}
}
{{if not .Stock -}}
service imap {
  process_limit = 1024
}
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
{{end -}}
`

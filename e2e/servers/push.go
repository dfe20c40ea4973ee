package servers

import (
	"strings"
	"text/template"
)

// dovecotExtras are the settings that DovecotOptions switch on, in the syntax of each release. They
// stand behind the usual configuration.
func dovecotExtras(o DovecotOptions, modern bool) string {
	text := dovecotExtras23
	if modern {
		text = dovecotExtras24
	}
	var b strings.Builder
	if err := template.Must(template.New("extras").Parse(text)).Execute(&b, o); err != nil {
		panic(err) // the template is ours, and writes to memory
	}
	return b.String()
}

const dovecotExtras23 = `
{{if or .LMTPPort .POP3Port -}}
protocols = imap{{if .LMTPPort}} lmtp{{end}}{{if .POP3Port}} pop3{{end}}
{{end -}}
{{with .POP3Port -}}
service pop3-login {
  inet_listener pop3 {
    port = {{.}}
  }
  inet_listener pop3s {
    port = 0
  }
}
{{end -}}
{{with .LMTPPort -}}
auth_username_format = %Ln
service lmtp {
  inet_listener lmtp {
    address = 127.0.0.1
    port = {{.}}
  }
}
{{end -}}
{{with .Push}}{{if .OX -}}
protocol lmtp {
  mail_plugins = acl quota notify push_notification
}
plugin {
  push_notification_driver = ox:url={{.OX}}{{if .OXUserFromMetadata}} user_from_metadata{{end}}
}
{{else -}}
mail_plugins = acl quota notify push_notification mail_lua push_notification_lua
protocol imap {
  mail_plugins = acl quota notify push_notification mail_lua push_notification_lua imap_acl imap_quota
}
plugin {
  push_notification_driver = lua:file={{.Script}}
  imapproxy_url = {{.URL}}
{{if .One}}  imapproxy_tell = one
{{end}}  imapproxy_token_file = {{.TokenFile}}
  imapproxy_shared = shared/%%u/
}
{{end}}{{end -}}
`

// Shared mailboxes' owners stand where 2.3 wants %%u, and 2.4 %u: it expands no
// variables in the settings of the script.
const dovecotExtras24 = `
{{with .POP3Port -}}
protocols {
  pop3 = yes
}
service pop3-login {
  inet_listener pop3 {
    port = {{.}}
  }
  inet_listener pop3s {
    port = 0
  }
}
{{end -}}
{{with .LMTPPort -}}
protocols {
  lmtp = yes
}
auth_username_format = %{user | username | lower}
service lmtp {
  inet_listener lmtp {
    listen = 127.0.0.1
    port = {{.}}
  }
}
{{end -}}
{{with .Push}}{{if .OX -}}
protocol lmtp {
  mail_plugins {
    notify = yes
    push_notification = yes
  }
}
push_notification ox {
  push_notification_ox_url = {{.OX}}
  push_notification_ox_user_from_metadata = {{if .OXUserFromMetadata}}yes{{else}}no{{end}}
}
{{else -}}
mail_plugins {
  notify = yes
  push_notification = yes
  mail_lua = yes
  push_notification_lua = yes
}
push_notification lua {
  lua_file = {{.Script}}
  lua_settings {
    imapproxy_url = {{.URL}}
{{if .One}}    imapproxy_tell = one
{{end}}    imapproxy_token_file = {{.TokenFile}}
    imapproxy_shared = shared/%u/
  }
}
{{end}}{{end -}}
`

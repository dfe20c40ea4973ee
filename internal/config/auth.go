package config

import "time"

// Auth is one credential source; exactly one field is set.
type Auth struct {
	Backend    *AuthBackend    `hcl:"backend,variant"`
	PasswdFile *AuthPasswdFile `hcl:"passwd_file,variant"`
	HTTP       *AuthHTTP       `hcl:"http,variant"`
}

// AuthBackend leaves the decision to the user's backend.
type AuthBackend struct{}

// AuthPasswdFile is a passwd-file in Dovecot's form.
type AuthPasswdFile struct {
	Path string `hcl:"path" path:"users" required:"path = \"users.passwd\""`
}

// AuthHTTP is a service that is asked by the protocol of nginx's mail proxy.
type AuthHTTP struct {
	URL         string            `hcl:"url" required:"url = \"http://127.0.0.1:9000/auth\""`
	Headers     map[string]string `hcl:"headers" default:"{}"`
	CAFile      string            `hcl:"ca_file" path:"cert" default:""`
	Timeout     time.Duration     `hcl:"timeout" default:"5s" min:"100ms" max:"30s"`
	Concurrency int               `hcl:"concurrency" default:"32" min:"2" max:"1000"`
}

package servers

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const slapdConf = `include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCACertificateFile %[1]s/cert.pem
TLSCertificateFile %[1]s/cert.pem
TLSCertificateKeyFile %[1]s/key.pem
pidfile %[1]s/pid
database mdb
maxsize 67108864
suffix "dc=example,dc=org"
rootdn "cn=admin,dc=example,dc=org"
rootpw ` + DirectoryPassword + `
directory %[1]s/db
index objectClass,uid,mail,member eq
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="` + DirectoryReader + `" read by self read by * none
`

// The directory's service account, which reads all but passwords, and its own and the administrator's
// password.
const (
	DirectoryReader   = "cn=proxy,dc=example,dc=org"
	DirectoryPassword = "pw-Directory.1"
)

const slapdBase = `dn: dc=example,dc=org
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: ou=people,dc=example,dc=org
objectClass: organizationalUnit
ou: people

dn: ou=groups,dc=example,dc=org
objectClass: organizationalUnit
ou: groups

dn: ` + DirectoryReader + `
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: proxy
userPassword: ` + DirectoryPassword + `

`

// Slapd is a running OpenLDAP.
type Slapd struct {
	*Process
	URL, TLSURL string // ldap:// with StartTLS, ldaps://
	Cert        Certificate

	t    testing.TB
	dir  string
	addr string
}

// StartSlapd runs an OpenLDAP with these further entries below dc=example,dc=org.
func StartSlapd(t testing.TB, entries string) *Slapd {
	t.Helper()
	Real(t)
	s := &Slapd{t: t, dir: Folder(t)}
	s.Cert = newCertificate(t, s.dir)
	addr, _ := FreeAddr(t)
	tlsAddr, _ := FreeAddr(t)
	s.addr, s.URL, s.TLSURL = addr, "ldap://"+addr, "ldaps://"+tlsAddr
	mkdir(t, filepath.Join(s.dir, "db"))
	conf := filepath.Join(s.dir, "slapd.conf")
	write(t, conf, fmt.Sprintf(slapdConf, s.dir))
	write(t, filepath.Join(s.dir, "base.ldif"), slapdBase+entries)
	run(t, "", "slapadd", "-f", conf, "-l", filepath.Join(s.dir, "base.ldif"))
	s.Start()
	return s
}

// Start runs the server, again after its Stop.
func (s *Slapd) Start() {
	s.t.Helper()
	s.Process = Start(s.t, "slapd", exec.Command("slapd", "-f", filepath.Join(s.dir, "slapd.conf"), "-h", s.URL+"/ "+s.TLSURL+"/", "-d", "0"))
	s.WaitAccepts("tcp", s.addr)
}

// Modify applies a change in LDIF.
func (s *Slapd) Modify(ldif string) {
	s.t.Helper()
	run(s.t, strings.TrimLeft(ldif, "\n"), "ldapmodify", "-x", "-H", s.URL, "-D", "cn=admin,dc=example,dc=org", "-w", DirectoryPassword)
}

package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// inChroot is run in a mount namespace of its own: "$1" is what the release is seen in as it is, with all that is written kept in memory;
// "$2" has the packages, "$3" the steps.
const inChroot = `
set -eu
mount -t tmpfs tmpfs "$2/mnt"
mkdir "$2/mnt/upper" "$2/mnt/work" "$2/mnt/root"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/mnt/upper,workdir=$2/mnt/work" "$2/mnt/root"
cp "$2"/*.deb "$2"/*.cdx.json "$2/failed.log" "$2/mnt/root/root/"
mount -t proc proc "$2/mnt/root/proc"
mount --rbind /dev "$2/mnt/root/dev"
mount -t tmpfs -o mode=755 tmpfs "$2/mnt/root/run"
exec chroot "$2/mnt/root" /bin/sh -euxc "$3"
`

// steps are what an operator does with the package, and what has to be so then.
const steps = `
cd /root
PATH=$PATH:/usr/sbin:/sbin
fails() { ! "$@"; }

# Debian's imapproxy, which is another program: its files' names, as in Debian 12 (1.2.8).
for path in /etc/init.d/imapproxy /lib/systemd/system/imapproxy.service /usr/sbin/imapproxyd /usr/sbin/pimpstat \
	/usr/share/imapproxy/imapproxy.conf.default /usr/share/doc/imapproxy/README.gz /usr/share/man/man8/imapproxyd.8.gz; do
	mkdir -p "other/$(dirname "$path")"
	echo other > "other/$path"
done
mkdir -p other/var/lib/imapproxy/chroot other/DEBIAN
printf 'Package: imapproxy\nVersion: 1.2.8\nArchitecture: all\nMaintainer: none\nDescription: another program\n' > other/DEBIAN/control
dpkg-deb --build other other.deb
dpkg -i other.deb
unharmed() { test -f /usr/sbin/imapproxyd && test -f /lib/systemd/system/imapproxy.service && test "$(stat -c %U /var/lib/imapproxy/chroot)" = root; }

dpkg -i imapproxy-lb_1.0_*.deb

unharmed
imapproxy --version
id imapproxy
test "$(stat -c '%U:%G %a' /etc/imapproxy)" = "root:imapproxy 750"
test "$(stat -c '%U:%G %a' /etc/imapproxy/config.hcl)" = "root:imapproxy 640"
setpriv --reuid imapproxy --regid imapproxy --clear-groups imapproxy check --file-only --config /etc/imapproxy/config.hcl
systemd-analyze verify --man=no --recursive-errors=no imapproxy-lb.service imapproxy-lb.socket
gunzip -t /usr/share/man/man1/imapproxy.1.gz
bash -n /usr/share/bash-completion/completions/imapproxy
test -s /usr/share/doc/imapproxy-lb/docs/operations.md
test -s /usr/share/doc/imapproxy-lb/contrib/prometheus/rules.yml
test -s /usr/share/doc/imapproxy-lb/examples/consul/policy.hcl
cmp /usr/share/doc/imapproxy-lb/imapproxy.cdx.json imapproxy-lb_1.0_*.cdx.json
dpkg -V imapproxy-lb
dpkg-query -W -f '${Conffiles}' imapproxy-lb | grep -q /etc/fail2ban/filter.d/imapproxy-lb.conf

rm -f /etc/fail2ban/jail.d/*
cp /usr/share/doc/imapproxy-lb/contrib/fail2ban/jail.conf /etc/fail2ban/jail.d/imapproxy-lb.conf
test "$(fail2ban-regex --usedns=no '--out=<ip>' /root/failed.log imapproxy-lb)" = "127.0.0.1
127.0.0.1"
mkdir -p /var/log/imapproxy /var/lib/imapproxy-lb
echo line > /var/log/imapproxy/imapproxy.log
chown -R imapproxy:imapproxy /var/log/imapproxy /var/lib/imapproxy-lb
fail2ban-client --test
logrotate --force /etc/logrotate.d/imapproxy-lb
test -s /var/log/imapproxy/imapproxy.log.1
fails test -e /var/log/imapproxy/imapproxy.log

sed -i 's/imap.example.org/mine.example.org/' /etc/imapproxy/config.hcl
echo secret > /etc/imapproxy/admin.token
sed -i 's/|bad_name//' /etc/fail2ban/filter.d/imapproxy-lb.conf
dpkg -i imapproxy-lb_1.1_*.deb
grep -q mine.example.org /etc/imapproxy/config.hcl
fails grep -q bad_name /etc/fail2ban/filter.d/imapproxy-lb.conf
test "$(dpkg-query -W -f '${Version}' imapproxy-lb)" = 1.1
test "$(stat -c '%U:%G %a' /etc/imapproxy/config.hcl)" = "root:imapproxy 640"

dpkg -r imapproxy-lb
fails test -e /usr/bin/imapproxy
fails test -e /usr/lib/systemd/system/imapproxy-lb.service
grep -q mine.example.org /etc/imapproxy/config.hcl
test -s /etc/fail2ban/filter.d/imapproxy-lb.conf
test -s /var/log/imapproxy/imapproxy.log.1

dpkg -i imapproxy-lb_1.1_*.deb
rm /etc/imapproxy/admin.token
dpkg -P imapproxy-lb
fails test -e /etc/imapproxy
fails test -e /etc/logrotate.d/imapproxy-lb
fails test -e /etc/fail2ban/filter.d/imapproxy-lb.conf
fails test -e /var/log/imapproxy
fails test -e /var/lib/imapproxy-lb
unharmed
fails dpkg -s imapproxy-lb
`

// packed builds the package, with the tests' program in it, and returns the folder.
func packed(t *testing.T, version, program string) string {
	t.Helper()
	dir := servers.Folder(t)
	c := exec.CommandContext(t.Context(), "../packaging/build", version, dir)
	c.Env = append(os.Environ(), "PROGRAM="+program)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("packaging/build: %v\n%s", err, out)
	}
	return dir
}

// failedLogins is the log of a proxy at which two clients gave a wrong password, and one the right one.
func failedLogins(t *testing.T) string {
	t.Helper()
	server := servers.StartDovecot(t, servers.DovecotOptions{})
	p := startProxy(t, proxyOptions{Backends: []backend{{"b1", server.Addr}}})
	for i, password := range []string{"wrong", servers.Password, "wrong"} {
		if c := imaptest.Dial(t, p.Plain); c.TryLogin(servers.User(i+1), password).OK() != (password == servers.Password) {
			t.Fatalf("the login with %q", password)
		}
	}
	p.Stop()
	return p.Output()
}

// deb returns the package in a folder.
func deb(t *testing.T, dir string) string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "imapproxy-lb_*.deb"))
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	return all[0]
}

// The Debian package is installed, upgraded, removed and purged in this release, in a chroot that keeps nothing of it. PACKAGE_ROOT names the root of
// another release.
func TestTheDebianPackage(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	program, dir := os.Getenv(proxyBinary), servers.Folder(t)
	for _, version := range []string{"1.0", "1.1"} {
		file := deb(t, packed(t, version, program))
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		again, err := os.ReadFile(deb(t, packed(t, version, program)))
		if err != nil || !bytes.Equal(text, again) {
			t.Errorf("two builds of %s differ: %v", version, err)
		}
		writeFile(t, filepath.Join(dir, filepath.Base(file)), string(text))
		list := strings.TrimSuffix(file, ".deb") + ".cdx.json"
		if text, err = os.ReadFile(list); err != nil {
			t.Fatal(err)
		}
		listsModules(t, text, program, version)
		writeFile(t, filepath.Join(dir, filepath.Base(list)), string(text))
	}
	writeFile(t, filepath.Join(dir, "failed.log"), failedLogins(t))
	root := os.Getenv("PACKAGE_ROOT")
	if root == "" {
		root = "/"
	}
	if err := os.Mkdir(filepath.Join(dir, "mnt"), 0o755); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), "unshare", "--mount", "--propagation", propagation(t), "--pid", "--fork", "/bin/sh", "-c", inChroot, "sh", root, dir, steps)
	c.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"imapproxy check --config", "imapproxy upgrade --config"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the package doesn't say what to do next (%s):\n%s", want, out)
		}
	}
}

package servers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Courier's paths are fixed, and its package excludes Dovecot's. So it runs in a
// mount namespace of its own: over /usr and /etc lies what ./test unpacked
// ($tree), and /run is an empty folder. Nothing of it is seen outside, and it all
// ends with the processes.
//
// Arguments of this and the next: the unpacked tree, our folder, the port.
const courierInNamespace = `set -e
tree=$1 dir=$2 port=$3
mount -t tmpfs tmpfs "$dir/ns"
mkdir "$dir/ns/upper" "$dir/ns/work"
mount -t overlay overlay -o "lowerdir=$tree/usr:/usr" /usr
mount -t overlay overlay -o "lowerdir=$tree/etc:/etc,upperdir=$dir/ns/upper,workdir=$dir/ns/work" /etc
mount -t tmpfs tmpfs /run
` + courierScript

// In a container, where root may not mount, the files are put where they belong,
// by one test at a time: the lock is held by the descriptor that all of Courier's
// processes inherit. The files that are put there are listed in $dir/placed.
const courierInPlace = `set -e
tree=$1 dir=$2 port=$3
exec 9>/tmp/imapproxy-e2e-courier.lock
flock 9
if [ -e /etc/courier ] && [ ! -e /etc/courier/of-the-tests ]; then
  echo "/etc/courier exists: there's a Courier of this machine's own, which must not be touched" >&2
  exit 1
fi
mkdir -p /etc/courier
touch /etc/courier/of-the-tests
cp -a "$tree/etc/courier/." /etc/courier/
(cd "$tree" && find usr -type f -o -type l) | while read -r f; do
  [ -e "/$f" ] && continue
  mkdir -p "/$(dirname "$f")"
  cp -a "$tree/$f" "/$f"
  echo "/$f" >>"$dir/placed"
done
` + courierScript

// courierScript is the rest of the script in both cases.
const courierScript = `
rm -rf /run/courier
mkdir -p /run/courier/authdaemon /etc/courier
cp "$dir/authdaemonrc" "$dir/userdb" /etc/courier/
chmod 600 /etc/courier/userdb
makeuserdb
/usr/lib/courier/courier-authlib/authdaemond &
until [ -S /run/courier/authdaemon/socket ]; do
  kill -0 $! || exit 1
  sleep 0.05
done
set -a
. /etc/courier/imapd
IMAP_CAPABILITY="$IMAP_CAPABILITY AUTH=PLAIN"
IMAP_TLS_REQUIRED=0
set +a
exec /usr/sbin/couriertcpd -address=127.0.0.1 -maxprocs=400 -maxperip=400 $TCPDOPTS \
  "$port" /usr/lib/courier/courier/imaplogin /usr/bin/imapd Maildir
`

// removePlaced removes the files that courierInPlace put onto the machine.
const removePlaced = `
[ -e "$1/placed" ] || exit 0
exec 9>/tmp/imapproxy-e2e-courier.lock
flock 9
xargs -r rm -f <"$1/placed"
rm -rf /etc/courier /run/courier /usr/lib/courier /usr/lib/courier-authlib
`

// StartCourier runs a Courier-IMAP, unpacked by ./test into IMAPPROXY_COURIER.
// It ignores SASL's authorization id, has no TLS here and none of the
// extensions of the last twenty years.
func StartCourier(t testing.TB) *Server {
	t.Helper()
	Real(t)
	tree := os.Getenv("IMAPPROXY_COURIER")
	if _, err := os.Stat(filepath.Join(tree, "usr/bin/imapd")); err != nil {
		t.Fatalf("no Courier: %v (./test unpacks it and sets IMAPPROXY_COURIER)", err)
	}
	command := []string{"unshare", "--mount", "sh", "-c", courierInNamespace}
	mayMount := exec.Command("unshare", "--mount", "true").Run() == nil
	if !mayMount {
		command = []string{"sh", "-c", courierInPlace}
	}
	dir := Folder(t)
	mkdir(t, filepath.Join(dir, "ns"))
	write(t, filepath.Join(dir, "authdaemonrc"), "authmodulelist=\"authuserdb\"\nauthmodulelistorig=\"authuserdb\"\ndaemons=5\nDEBUG_LOGIN=0\n")
	hash := strings.TrimSpace(run(t, "", "openssl", "passwd", "-6", Password))
	masterHash := strings.TrimSpace(run(t, "", "openssl", "passwd", "-6", MasterPassword))
	var userdb, makeMaildirs strings.Builder
	add := func(user, hash string) {
		home := filepath.Join(dir, "mail", user)
		fmt.Fprintf(&userdb, "%s\tuid=%d|gid=%d|home=%s|mail=%s/Maildir|systempw=%s\n", user, mailUID, mailUID, home, home, hash)
		for _, sub := range []string{"cur", "new", "tmp"} {
			fmt.Fprintf(&makeMaildirs, "mkdir -p '%s/Maildir/%s'\n", home, sub)
		}
	}
	for i := 1; i <= Users; i++ {
		add(User(i), hash)
	}
	add(MasterUser, masterHash)
	write(t, filepath.Join(dir, "userdb"), userdb.String())
	fmt.Fprintf(&makeMaildirs, "chown -R %d:%d '%s/mail'\n", mailUID, mailUID, dir)
	run(t, makeMaildirs.String(), "sh", "-e")

	addr, port := FreeAddr(t)
	if !mayMount {
		t.Cleanup(func() { run(t, "", "sh", "-c", removePlaced, "sh", dir) })
	}
	command = append(command, "sh", tree, dir, port)
	p := Start(t, "courier", exec.Command(command[0], command[1:]...))
	p.WaitPort(addr)
	return &Server{Kind: "courier", Name: "courier", Version: filepath.Base(tree), Addr: addr, Process: p}
}

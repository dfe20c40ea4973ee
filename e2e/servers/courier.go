package servers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// courierScript runs Courier in a mount namespace of its own, since its paths
// are fixed: over /usr and /etc lies what ./test unpacked ($tree), and /run is
// an empty folder. Nothing of it is seen outside, and it all ends with the
// processes.
//
// Its arguments: the unpacked tree, our folder, the port.
const courierScript = `set -e
tree=$1 dir=$2 port=$3
mount -t tmpfs tmpfs "$dir/ns"
mkdir "$dir/ns/upper" "$dir/ns/work"
mount -t overlay overlay -o "lowerdir=$tree/usr:/usr" /usr
mount -t overlay overlay -o "lowerdir=$tree/etc:/etc,upperdir=$dir/ns/upper,workdir=$dir/ns/work" /etc
mount -t tmpfs tmpfs /run
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
MAXPERIP=400 MAXDAEMONS=400 TCPDOPTS= IMAP_TLS_REQUIRED=0 IMAP_STARTTLS=NO
set +a
exec /usr/sbin/couriertcpd -address=127.0.0.1 -maxprocs=400 -maxperip=400 -nodnslookup -noidentlookup \
  "$port" /usr/lib/courier/courier/imaplogin /usr/bin/imapd Maildir
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
	if out, err := exec.Command("unshare", "--mount", "true").CombinedOutput(); err != nil {
		t.Fatalf("Courier's paths are fixed, so it needs a mount namespace, which this machine refuses: %s", out)
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
	p := Start(t, "courier", exec.Command("unshare", "--mount", "sh", "-c", courierScript, "sh", tree, dir, port))
	p.WaitPort(addr)
	return &Server{Kind: "courier", Name: "courier", Version: filepath.Base(tree), Addr: addr, Process: p}
}

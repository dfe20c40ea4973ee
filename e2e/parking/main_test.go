package parking

import (
	"flag"
	"net"
	"testing"

	"imapproxy/internal/imaptest"
)

// TestMain has more tests at a time than there are processors: they mostly wait.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "10"); err != nil {
		panic(err)
	}
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: zone.dial} // before the first test: they run side by side
	imaptest.LeakMain(m)
}

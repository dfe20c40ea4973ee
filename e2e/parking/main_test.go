package parking

import (
	"flag"
	"testing"

	"imapproxy/internal/imaptest"
)

// TestMain has more tests at a time than there are processors: they mostly wait.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "10"); err != nil {
		panic(err)
	}
	imaptest.LeakMain(m)
}

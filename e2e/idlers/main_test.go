package idlers

import (
	"flag"
	"testing"

	"imapproxy/internal/imaptest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// They wait for each other's doings nearly all the time: a machine with two cores can have
	// them all at once.
	if err := flag.Set("test.parallel", "40"); err != nil {
		panic(err) // the flag has always been there
	}
	imaptest.LeakMain(m)
}

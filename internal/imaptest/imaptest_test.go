package imaptest

import "testing"

func TestMain(m *testing.M) { LeakMain(m) }

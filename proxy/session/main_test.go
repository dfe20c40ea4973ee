package session

import (
	"testing"

	"imapproxy/internal/imaptest"
)

func TestMain(m *testing.M) { imaptest.LeakMain(m) }

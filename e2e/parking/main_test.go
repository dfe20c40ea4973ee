//go:build parking

package parking

import (
	"testing"

	"imapproxy/internal/imaptest"
)

func TestMain(m *testing.M) { imaptest.LeakMain(m) }

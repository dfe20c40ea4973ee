package session

import (
	"strings"
	"testing"

	"imapproxy/proxy/wire"
)

func TestEveryReasonsLastWordIsAResponse(t *testing.T) {
	seen := map[Reason]bool{}
	for _, r := range Reasons() {
		if seen[r] {
			t.Errorf("%s is listed twice", r)
		}
		seen[r] = true
		bye := r.Bye()
		if bye == "" {
			continue
		}
		if r.cuts() {
			t.Errorf("%s cuts, and has a last word", r)
		}
		if h := wire.ParseResponseHead([]byte(bye)); h.Kind != wire.Untagged || h.Status != wire.BYE || !strings.HasSuffix(bye, "\r\n") || strings.Count(bye, "\n") != 1 || len(h.Rest) < 5 {
			t.Errorf("%s: %q", r, bye)
		} else if code, _ := wire.Code(h.Rest); len(code) == 0 {
			t.Errorf("%s has no response code: %q", r, bye)
		}
	}
}

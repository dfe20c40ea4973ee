package upstream

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
)

// A registration that switches TLS off mustn't get the password that opens every mailbox.
func TestTheMastersPasswordDoesntLeaveTheMachineWithoutTLS(t *testing.T) {
	for address, local := range map[string]bool{
		"127.0.0.1:143": true, "127.3.2.1:143": true, "[::1]:143": true, "localhost:143": true,
		"10.0.0.1:143": false, "[2001:db8::1]:143": false, "mail.example.org:143": false, "localhost.example.org:143": false, "0.0.0.0:143": false, ":143": false,
	} {
		if Local(address) != local {
			t.Errorf("Local(%q) is %v", address, !local)
		}
	}
	for _, c := range []struct {
		name      string
		tls, mode string
		permitted bool
		dialled   bool
	}{
		{"in the clear", TLSNone, ModeMaster, false, false},
		{"not said", "", ModeMaster, false, false},
		{"permitted", TLSNone, ModeMaster, true, true},
		{"under TLS", TLSImplicit, ModeMaster, false, true},
		{"under STARTTLS", TLSStartTLS, ModeMaster, false, true},
		{"a user's own", TLSNone, ModeUser, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var dialled atomic.Bool
			d := newDialer(t, Options{CleartextMaster: c.permitted, Dialer: func(context.Context, string, string) (net.Conn, error) {
				dialled.Store(true)
				return nil, errors.New("nobody is there")
			}})
			target := Target{ID: "b1", Address: "192.0.2.1:143", TLS: c.tls}
			a := Auth{Mode: c.mode, User: "alice", Password: "secret", MasterUser: "master", MasterPassword: "of-the-master"}
			_, err := d.Login(t.Context(), target, a, Client{})
			if dialled.Load() != c.dialled || errors.Is(err, ErrCleartext) == c.dialled {
				t.Errorf("dialled: %v, %v", dialled.Load(), err)
			}
			var down *Unavailable
			if !c.dialled && (!errors.As(err, &down) || down.BackendDown()) {
				t.Errorf("that isn't the backend's fault: %v", err)
			}
			if c.mode == ModeMaster {
				dialled.Store(false)
				if _, err := d.VerifyIntendedUser(t.Context(), target, a); dialled.Load() != c.dialled || errors.Is(err, ErrCleartext) == c.dialled {
					t.Errorf("the check of it dialled: %v, %v", dialled.Load(), err)
				}
			}
		})
	}
}

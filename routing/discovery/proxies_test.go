package discovery

import (
	"context"
	"fmt"
	"testing"
	"time"

	"imapproxy/internal/imaptest/consultest"
)

// The others are followed as they come, fail and go, and what isn't a proxy is left out.
func TestTheOtherProxiesAreFollowed(t *testing.T) {
	a := consultest.Start(t)
	proxy := func(id, address, admin string) consultest.Service {
		return consultest.Service{Name: "imapproxy", ID: id, Address: address, Port: 993, Meta: map[string]string{"kind": proxyKind, MetaAdmin: admin},
			Check: &consultest.Check{TTL: "1h", Status: "passing"}}
	}
	a.Register(consultest.Service{Name: "imapproxy", ID: "web", Address: "192.0.2.7", Port: 80})
	a.Register(proxy("p1", "192.0.2.1", ":8143"))
	answers := make(chan []ProxyInstance, 100)
	tel, _ := logged(t)
	background(t, func(ctx context.Context) error {
		return WatchProxies(ctx, ConsulOptions{Address: a.Address(), Service: "imapproxy", Tags: []string{"of-backends"}}, tel, func(all []ProxyInstance) { answers <- all })
	})
	expect := func(want string) {
		t.Helper()
		got := ""
		for got != want {
			select {
			case all := <-answers:
				if got = fmt.Sprint(all); got == want {
					return
				}
			case <-time.After(30 * time.Second):
				t.Fatalf("they are %s, want %s", got, want)
			}
		}
	}
	expect("[{p1 192.0.2.1:8143 true}]")
	a.Register(proxy("p2", "2001:db8::2", ":8143"))
	a.Register(proxy("p3", "", "192.0.2.3:1")) // an address of its own for this
	a.Register(proxy("p4", "", ":8143"))       // its node's
	a.Register(proxy("p5", "192.0.2.5", ""))   // of an older release
	expect("[{p1 192.0.2.1:8143 true} {p2 [2001:db8::2]:8143 true} {p3 192.0.2.3:1 true} {p4 127.0.0.1:8143 true} {p5  true}]")
	a.TTL("service:p2", "critical")
	a.Deregister("p3")
	a.Deregister("p4")
	a.Deregister("p5")
	expect("[{p1 192.0.2.1:8143 true} {p2 [2001:db8::2]:8143 false}]")
}

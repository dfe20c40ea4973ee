package upstream_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"imapproxy/proxy/upstream"
)

// serve is a backend that agrees to everything.
func serve(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		fmt.Fprint(c, "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n")
		for lines := bufio.NewScanner(c); lines.Scan(); {
			tag, _, _ := strings.Cut(lines.Text(), " ")
			fmt.Fprintf(c, "%s OK [CAPABILITY IMAP4rev1 IDLE] done\r\n", tag)
		}
		_ = c.Close()
	}
}

// A login, a connection that waits in the pool, and another session of the same user that gets it
// without a login.
func ExamplePool() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ln.Close()
	go serve(ln) // until ln is closed

	dialer, err := upstream.New(upstream.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	pool := upstream.NewPool(upstream.PoolOptions{WarmFor: time.Minute, AuthCacheFor: time.Minute})
	defer pool.Close()

	backend := upstream.Target{ID: "imap1", Address: ln.Addr().String(), TLS: upstream.TLSNone}
	login := upstream.Auth{Mode: upstream.ModeUser, User: "alice", Password: "secret"}
	conn, err := dialer.Login(context.Background(), backend, login, upstream.Client{})
	if err != nil {
		fmt.Println(err)
		return
	}
	key := pool.Key("alice", backend, login, upstream.UseSession, "")
	fmt.Println("kept:", pool.Give(key, conn, upstream.Condition{}))

	login.Password = "guess"
	other := pool.Key("alice", backend, login, upstream.UseSession, "")
	fmt.Println("for another password:", pool.Take(other, upstream.Unproven, netip.Addr{}) != nil)
	again := pool.Take(key, upstream.Verified, netip.Addr{})
	fmt.Println("for the same:", again != nil)
	if again != nil {
		_ = again.Close()
	}
	// Output:
	// kept: true
	// for another password: false
	// for the same: true
}

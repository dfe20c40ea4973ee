package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"imapproxy/e2e/servers"
)

// Who guesses waits, with the right password too, and is let in after the wait. Who logs in from elsewhere doesn't wait.
func TestGuessesDelayTheGuesser(t *testing.T) {
	t.Parallel()
	p := masterProxyWith(t, servers.StartDovecot(t, servers.DovecotOptions{}), func(o *proxyOptions) { o.Guesses = true })
	delays := func(by string) float64 { return p.metric(t, "imapproxy_login_delays_total", `by="`+by+`"`) }
	let := func(source string, user int, password, want string) {
		t.Helper()
		if _, answer := attempt(p.Plain, source, servers.User(user), password); !strings.HasPrefix(answer, "a "+want) {
			t.Fatalf("%s: %s", source, answer)
		}
	}
	let("127.1.1.1", 1, userPassword, "OK")
	for i := 0; delays("address") == 0; i++ {
		if i == 20 {
			t.Fatal("20 guesses don't wait")
		}
		let("127.2.2.2", 2, fmt.Sprint("guess", i), "NO [AUTHENTICATIONFAILED]")
	}
	before := delays("address")
	let("127.1.1.1", 1, userPassword, "OK")
	let("127.3.3.3", 3, userPassword, "OK")
	if n := delays("address"); n != before {
		t.Errorf("%v logins from elsewhere waited", n-before)
	}
	let("127.2.2.2", 2, userPassword, "OK")
	if n := delays("address"); n != before+1 {
		t.Errorf("the guesser's last login waited %v times", n-before)
	}
	p.toldNoSecrets(t, userPassword, "guess0")
}

// from dials from an address of the loopback, so that networks differ.
func from(addr, source string) (net.Conn, *bufio.Reader, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}, Timeout: 90 * time.Second}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	return c, bufio.NewReader(c), nil
}

// attempt logs in and out again, and says how long that took and what was answered.
func attempt(addr, source, user, password string) (time.Duration, string) {
	begun := time.Now()
	c, r, err := from(addr, source)
	if err != nil {
		return time.Since(begun), err.Error()
	}
	defer c.Close()
	_ = c.SetDeadline(begun.Add(90 * time.Second))
	if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "* OK") {
		return time.Since(begun), strings.TrimSpace(fmt.Sprint(line, err))
	}
	fmt.Fprintf(c, "a LOGIN %s %s\r\n", user, password)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return time.Since(begun), err.Error()
		}
		if strings.HasPrefix(line, "a ") {
			took := time.Since(begun)
			_, _ = io.WriteString(c, "z LOGOUT\r\n")
			return took, strings.TrimSpace(line)
		}
	}
}

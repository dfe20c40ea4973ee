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

// answers connects, says all of text at once, and returns the tagged answers ("a OK") and
// "BYE", and "closed" when the server ends the connection by itself; it stops
// reading at the answer that is tagged z.
func answers(t *testing.T, addr, text string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	r := bufio.NewReader(c)
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	var words []string
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return strings.Join(append(words, "closed"), ", ")
		}
		w := strings.Fields(line)
		switch {
		case len(w) < 2 || w[0] == "*" && !strings.EqualFold(w[1], "BYE") || w[0] == "+":
		case w[0] == "*":
			words = append(words, "BYE")
		default:
			words = append(words, w[0]+" "+w[1])
			if w[0] == "z" {
				return strings.Join(words, ", ")
			}
		}
	}
}

// What Dovecot takes before login, though the grammar may not have it, is taken through the
// proxy as well, and what it refuses is refused.
func TestBeforeLoginTheSameIsTakenAsAtDovecot(t *testing.T) {
	t.Parallel()
	server := servers.StartDovecot(t, servers.DovecotOptions{})
	p := startProxy(t, proxyOptions{Backends: []backend{{"b1", server.Addr}}})
	user, password := servers.User(1), servers.Password
	largeID := func(pairs int) string {
		one := `"k` + strings.Repeat("x", 29) + `" "` + strings.Repeat("v", 1024) + `" `
		return "a ID (" + strings.TrimSpace(strings.Repeat(one, pairs)) + ")"
	}
	for _, said := range []string{
		"a LOGIN " + user + " " + password,
		"a LOGIN " + user + " " + password + " ",
		"a LOGIN " + user + " " + password + "   ",
		"a LOGIN " + user + "  " + password,
		"a LOGIN  " + user + " " + password,
		`a LOGIN "` + user + `"  "` + password + `" `,
		fmt.Sprintf("a LOGIN {%d+}\r\n%s {%d+}\r\n%s ", len(user), user, len(password), password),
		"a LOGIN " + user + " " + password + " more",
		"a LOGIN " + user,
		"a LOGIN " + user + " a*b", "a LOGIN " + user + " a%b", "a LOGIN " + user + ` a\b`, "a LOGIN " + user + " a]b",
		"a LOGIN " + user + " a(b", "a LOGIN " + user + " a)b", "a LOGIN " + user + ` a"b`,
		"a  LOGIN " + user + " " + password,
		"a NOOP ", "a NOOP x", "a CAPABILITY x", "a LOGOUT x",
		`a ID`, `a ID NIL`, `a ID nil `, `a ID ()`, `a ID ("name")`, `a ID ("name" "x" "y")`, `a ID ("a" NIL)`, `a ID (NIL "b")`,
		`a ID (a b)`, `a ID ( "a"  "b" ) `, `a ID ("a" ("b"))`, `a ID "x"`, "a ID (\"a\" {1+}\r\nb)",
		largeID(1), largeID(30), "a ID (" + strings.Repeat(`"a" "b" `, 40) + `"c" "d")`,
		`a ID ("` + strings.Repeat("k", 31) + `" "x")`,
		"a XX\r\na XX", "a XX\r\na XX\r\na XX", "a XX\r\nb NOOP\r\na XX\r\nb NOOP\r\na XX",
		"a\r\na\r\na", "a SELECT x\r\na SELECT x\r\na SELECT x", "a LOGIN x\r\na LOGIN x\r\na LOGIN x",
		"a AUTHENTICATE PLAIN =\r\na AUTHENTICATE PLAIN !\r\na AUTHENTICATE X\r\na AUTHENTICATE X",
	} {
		said += "\r\nz NOOP\r\n"
		direct, through := answers(t, server.Addr, said), answers(t, p.Plain, said)
		// The proxy answers the third bad command before it ends the connection.
		through = strings.Replace(through, "a BAD, BYE, closed", "BYE, closed", 1)
		if direct != through {
			t.Errorf("%.80q is answered %q by Dovecot and %q through the proxy", said, direct, through)
		}
	}
	// What only looks like a literal is none: Dovecot refuses the word, Cyrus takes it for the
	// password; what follows is a command to both.
	for _, said := range []string{"a LOGIN " + user + " abc{5}", "a LOGIN " + user + " abc{5+}", "a LOGIN " + user + " a{b"} {
		if got := answers(t, p.Plain, said+"\r\nz NOOP\r\n"); got != "a NO, z OK" {
			t.Errorf("%q is answered %q", said, got)
		}
	}
}

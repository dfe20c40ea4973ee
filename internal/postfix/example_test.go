package postfix_test

import (
	"bufio"
	"context"
	"fmt"
	"net"

	"imapproxy/internal/postfix"
)

// A transport_maps of Postfix, as tcp_table(5): the answer 200 has the value, 500 says that there is none.
func ExampleServer() {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		fmt.Println(err)
		return
	}
	backends := map[string]string{"alice@example.org": "lmtp:inet:[10.0.0.1]:24"}
	server := postfix.New(postfix.Options{Listener: l, Lookup: func(_ context.Context, key string) (string, error) {
		if value, ok := backends[key]; ok {
			return value, nil
		}
		return "", postfix.ErrNotFound
	}})
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error)
	go func() { ended <- server.Serve(ctx) }()

	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	answers := bufio.NewScanner(c)
	for _, key := range []string{"alice@example.org", "bob@example.org"} {
		fmt.Fprintf(c, "get %s\n", key)
		answers.Scan()
		fmt.Println(answers.Text())
	}
	stop()
	fmt.Println(<-ended, c.Close())
	// Output:
	// 200 lmtp:inet:[10.0.0.1]:24
	// 500 not%20found
	// <nil> <nil>
}

package conn_test

import (
	"bytes"
	"fmt"
	"net"

	"imapproxy/proxy/conn"
)

// lines prints whole lines, and keeps the beginning of an incomplete one back.
type lines struct{}

func (lines) Chunk(b []byte) (kept int, next conn.Next) {
	for {
		line, rest, whole := bytes.Cut(b, []byte("\r\n"))
		if !whole {
			return len(b), conn.More
		}
		fmt.Printf("%s\n", line)
		b = rest
	}
}

// A Pump reads a connection and hands each chunk to its receiver, until the connection ends or the receiver stops.
func ExampleConn_Pump() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	accepted, err := listener.Accept()
	if err != nil {
		fmt.Println(err)
		return
	}
	c, err := conn.New(accepted.(*net.TCPConn))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	fmt.Fprint(client, "a1 NOOP\r\na2 LOG")
	fmt.Fprint(client, "OUT\r\n")
	_ = client.(*net.TCPConn).CloseWrite()
	fmt.Println(c.Pump(conn.NewPool(), lines{}))
	// Output:
	// a1 NOOP
	// a2 LOGOUT
	// EOF
}

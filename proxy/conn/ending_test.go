package conn

import (
	"io"
	"net"
	"testing"
)

// The socket stays until the peer has closed it, whatever it sends before that; a reader of the closed connection returns at once.
func TestEndingWaitsForThePeersEnd(t *testing.T) {
	for name, end := range map[string]func(*Conn) error{"Close": (*Conn).Close, "Abort": (*Conn).Abort} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			nc, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			peer, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer peer.Close()
			c, err := New(nc.(*net.TCPConn))
			if err != nil {
				t.Fatal(err)
			}
			read := make(chan error, 1)
			go func() {
				_, err := c.Read(make([]byte, 1))
				read <- err
			}()
			e, err := c.Ending()
			if err != nil {
				t.Fatal(err)
			}
			if err := end(c); err != nil {
				t.Fatal(err)
			}
			<-read
			gone := make(chan struct{})
			go func() {
				e.Wait()
				close(gone)
			}()
			if _, err := io.ReadAll(peer); err != nil { // the end of our side comes at once
				t.Fatal(err)
			}
			if _, err := io.WriteString(peer, "* BYE\r\n"); err != nil {
				t.Fatal(err)
			}
			select {
			case <-gone:
				t.Fatal("the end was seen before the peer had closed")
			default:
			}
			peer.Close()
			<-gone
		})
	}
}

func TestAnEndingThatIsCut(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(nc.(*net.TCPConn))
	if err != nil {
		t.Fatal(err)
	}
	e, err := c.Ending()
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	gone := make(chan struct{})
	go func() {
		e.Wait()
		close(gone)
	}()
	e.Cut()
	<-gone
}

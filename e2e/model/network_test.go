package model

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/apptest"
)

// A network carries push events from a server to the proxy as networks do: some get lost, some
// come late, some twice.
type network struct {
	t    testing.TB
	url  string // where the server posts
	lose int    // of ten events so many are lost
	lost atomic.Int64

	to     atomic.Pointer[string] // where the proxy takes them; nil: it isn't there yet
	ctx    context.Context        // of what is under way
	late   sync.WaitGroup         // events that come late; the clean-up waits
	client *http.Client
}

// newNetwork takes events until the test's end.
func newNetwork(t testing.TB, lose int) *network {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	n := &network{
		t: t, url: "http://" + ln.Addr().String() + "/v1/events", lose: lose, ctx: ctx,
		client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute},
	}
	srv := &http.Server{Handler: n, ReadHeaderTimeout: time.Minute}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	t.Cleanup(func() { // the server and the proxy have ended
		cancel()
		must(t, srv.Shutdown(context.Background()))
		serving.Wait()
		n.late.Wait()
	})
	return n
}

// reach says where the proxy takes events.
func (n *network) reach(addr string) {
	url := "http://" + addr + "/v1/events"
	n.to.Store(&url)
}

// ServeHTTP takes an event from a server, whose user waits for the answer.
func (n *network) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	n.carry(body, r.Header.Get("Authorization"))
	w.WriteHeader(http.StatusNoContent)
}

// changed is an event of a server in this process.
func (n *network) changed(user, mailbox string) {
	n.carry(fmt.Appendf(nil, `{"user":%q,"events":[{"mailbox":%q}]}`, user, mailbox), "Bearer "+apptest.EventsToken)
}

// carry has an event arrive, or not.
func (n *network) carry(body []byte, authorization string) {
	later := func(most int) {
		n.late.Go(func() {
			select {
			case <-time.After(time.Duration(rand.IntN(most)) * time.Millisecond):
				n.post(body, authorization)
			case <-n.ctx.Done():
			}
		})
	}
	switch d := rand.IntN(10); {
	case d < n.lose:
		n.lost.Add(1)
	case d == 9:
		n.post(body, authorization)
		later(30)
	case d >= 7:
		later(100)
	default:
		n.post(body, authorization)
	}
}

// post has an event arrive.
func (n *network) post(body []byte, authorization string) {
	to := n.to.Load()
	if to == nil {
		return
	}
	req, err := http.NewRequestWithContext(n.ctx, http.MethodPost, *to, bytes.NewReader(body))
	if err != nil {
		n.t.Error(err)
		return
	}
	req.Header.Set("Authorization", authorization)
	res, err := n.client.Do(req)
	if err != nil {
		return // the proxy has ended
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusNoContent:
	case http.StatusRequestTimeout, http.StatusServiceUnavailable: // on a busy machine
		n.lost.Add(1)
	default:
		n.t.Errorf("an event is answered %s", res.Status)
	}
}

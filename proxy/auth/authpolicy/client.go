package authpolicy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"imapproxy/proxy/auth"
)

// Client asks one server. All methods are safe for concurrent use. Before, After, Report and State may be called on nil, which lets
// all logins go on.
type Client struct {
	o           Options
	name, value string // of the header; "": none
	asking      *auth.Asking
	http        *http.Client
	reports     chan message
	closing     chan struct{} // closed by Close
	dropped     context.CancelCauseFunc
	sending     sync.WaitGroup
	closed      sync.Once

	mu    sync.Mutex // guards the field below
	state State
}

// State is how well the server answers.
type State struct {
	Failures int       // questions and reports in a row that had no answer
	Since    time.Time // the first of them
	Error    string    // why the last one had none
	Rejects  bool      // logins are refused meanwhile
	again    time.Time // no login asks before
}

// A server that hasn't answered so often in a row isn't asked by logins for pauseFor, after which one of them tries again:
// otherwise each login would wait for the whole time-out.
const (
	failuresToPause = 5
	pauseFor        = 5 * time.Second
)

// Bounds of reports that wait and of answers.
const (
	maxReports = 1024
	maxAnswer  = 64 << 10
)

// answer is what a server says to a question.
type answer struct {
	Status *int   `json:"status"`
	Msg    string `json:"msg"`
}

// post sends a message, and returns the body of the answer.
func (c *Client) post(ctx context.Context, command string, m message) ([]byte, error) {
	where := c.o.URL + "?command=" + command
	if strings.HasSuffix(c.o.URL, "&") {
		where = c.o.URL + "command=" + command
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, where, bytes.NewReader(m.encode()))
	if err != nil {
		return nil, errors.New("not a URL")
	}
	r.Header.Set("Content-Type", "application/json")
	// Not sent: net/http then tries again if a connection that was kept proves dead.
	r.Header["Idempotency-Key"] = []string{}
	r.Header.Set("User-Agent", "imapproxy/auth-policy-client")
	if c.name != "" {
		r.Header[c.name] = []string{c.value}
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, auth.OfRequest(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, auth.OfRequest(err)
	case resp.StatusCode/10 != http.StatusOK/10: // as Dovecot takes it
		return nil, status(resp.StatusCode)
	case len(text) > maxAnswer:
		return nil, fmt.Errorf("%w: more than %d bytes", errJSON, maxAnswer)
	}
	return text, nil
}

// status is an answer that isn't 200.
type status int

func (s status) Error() string { return fmt.Sprintf("the policy server answers %d, not 200", int(s)) }

// errJSON matches answers that aren't what the protocol has.
var errJSON = errors.New("the policy server's answer isn't JSON with a number as status")

// allow is one question.
func (c *Client) allow(ctx context.Context, m message) (answer, error) {
	text, err := c.post(ctx, "allow", m)
	if err != nil {
		return answer{}, err
	}
	var said answer
	if json.Unmarshal(text, &said) != nil || said.Status == nil {
		return answer{}, errJSON // the parser's own text may repeat what was sent
	}
	return said, nil
}

// State returns how well the server answers.
func (c *Client) State() State {
	if c == nil {
		return State{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.state
	s.Rejects = c.o.RejectOnFail && !c.o.LogOnly
	return s
}

// pausing says why no login asks now, "" if it does. After a pause one login asks before the others do.
func (c *Client) pausing() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.Failures < failuresToPause {
		return ""
	}
	if now := c.o.Now(); !now.Before(c.state.again) {
		c.state.again = now.Add(pauseFor)
		return ""
	}
	return c.state.Error
}

// answered records whether the server has answered.
func (c *Client) answered(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.state = State{}
		return
	}
	now := c.o.Now()
	if c.state.Failures++; c.state.Failures == 1 {
		c.state.Since = now
	}
	if c.state.Error = err.Error(); c.state.Failures >= failuresToPause {
		c.state.again = now.Add(pauseFor)
	}
}

package events

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"imapproxy/proxy/park"
	"imapproxy/telemetry"
)

// Defaults and bounds of Options.
const (
	DefaultMaxBody     = 128 << 10 // octets; Cyrus's events have 64 KiB at most
	DefaultReadTimeout = 5 * time.Second
	DefaultMaxReaders  = 128
	MinSecret          = 16 // octets
	// logEvery is the shortest time between two log lines of one kind, so that a sender with a wrong token
	// doesn't flood the log.
	logEvery = time.Minute
)

// Options are the settings of a Handler.
type Options struct {
	// Secrets: a sender has to know one of them, as bearer token or as the password of Basic authentication
	// with any user name. Two are valid while one is being replaced. At least one, each of MinSecret octets
	// or more.
	Secrets []telemetry.Secret
	// User returns the canonical name of a user whom a backend names (auth.Names.Normalize). nil: names are
	// used unchanged.
	User func(string) (string, error)
	// Wanted says whether a session of this user is parked here; most events are for users without one. It
	// must not block. nil: all events are wanted.
	Wanted func(user string) bool
	// Forward is given what each notice says, whether it is wanted here or not: other proxies may have
	// sessions of the user. It must not block. nil: there are no others.
	Forward func(user, mailbox string)
	// MaxBody bounds an event, in octets. Zero: DefaultMaxBody.
	MaxBody int64
	// ReadTimeout bounds the time in which an event's body has to arrive. Zero: DefaultReadTimeout.
	ReadTimeout time.Duration
	// MaxReaders bounds the number of events that are received at a time; with MaxBody it bounds their
	// memory. Zero: DefaultMaxReaders.
	MaxReaders int
	// Log gets at most one warning of each kind in a minute. nil: nothing is logged.
	Log *slog.Logger
	// Now is the clock for Log's minutes. nil: time.Now.
	Now func() time.Time
}

// Stats counts requests, and the hints made of them, since the handler was created.
type Stats struct {
	Own, Cyrus, OX uint64 // events understood, by format
	Unauthorized   uint64
	Malformed      uint64 // not an event, too large, cut off, or too slow
	Busy           uint64 // refused because MaxReaders events were being received
	Hints          uint64 // passed to the queue
	Widened        uint64 // of Hints: for all mailboxes of the user, since the mailbox couldn't be identified
	Unwanted       uint64 // notices for users without a parked session
	BadUser        uint64 // notices for a name that no user can have
	Impersonal     uint64 // events that don't concern a user's personal mailboxes
	// Last is when the last event was understood, Refused when the last one wasn't, and Why. Zero: never.
	Last, Refused time.Time
	Why           string
}

// Handler is the HTTP handler of /v1/events: backends post changes of mailboxes, and the Handler turns them
// into hints. Dovecot posts within the user's command and waits for the answer, so the answer is sent as soon
// as the body was read: the handler waits only for the sender.
//
// Answers: 204 done; 400 not an event; 401 wrong secret; 405 wrong method; 408 too slow; 413 too large; 503
// too many events at a time. No part of a body is logged.
type Handler struct {
	o       Options
	secrets atomic.Pointer[[][sha256.Size]byte]
	queue   *park.HintQueue
	readers chan struct{} // a token for each event that is being received

	own, cyrus, ox, unauthorized, malformed, busy atomic.Uint64
	last                                          atomic.Int64 // when an event was understood last, in nanoseconds
	hints, widened, unwanted, badUser, impersonal atomic.Uint64

	mu      sync.Mutex // guards logged
	logged  map[string]time.Time
	refused time.Time // when an event was refused last
	why     string    // and the reason
}

// New returns a handler that adds hints to queue.
func New(o Options, queue *park.HintQueue) (*Handler, error) {
	e := &Handler{queue: queue, logged: map[string]time.Time{}}
	if err := e.SetSecrets(o.Secrets); err != nil {
		return nil, err
	}
	o.Secrets = nil
	if o.User == nil {
		o.User = func(u string) (string, error) { return u, nil }
	}
	if o.Wanted == nil {
		o.Wanted = func(string) bool { return true }
	}
	if o.Forward == nil {
		o.Forward = func(string, string) {}
	}
	if o.MaxBody <= 0 {
		o.MaxBody = DefaultMaxBody
	}
	if o.ReadTimeout <= 0 {
		o.ReadTimeout = DefaultReadTimeout
	}
	if o.MaxReaders <= 0 {
		o.MaxReaders = DefaultMaxReaders
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	e.o, e.readers = o, make(chan struct{}, o.MaxReaders)
	return e, nil
}

// SetSecrets replaces the secrets, from the next request on. After an error the previous ones remain valid.
func (e *Handler) SetSecrets(secrets []telemetry.Secret) error {
	if len(secrets) == 0 {
		return errors.New("events: no secret is set: any sender would be accepted")
	}
	var sums [][sha256.Size]byte
	for _, s := range secrets {
		if len(s.Reveal()) < MinSecret {
			return fmt.Errorf("events: a secret has %d octets or more", MinSecret)
		}
		sums = append(sums, sha256.Sum256([]byte(s.Reveal())))
	}
	e.secrets.Store(&sums)
	return nil
}

// ServeHTTP implements http.Handler.
func (e *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	// A sender is often a process that lives as long as one IMAP session: keeping the connections would mean
	// as many as there are sessions on the backends. Closing also lets the server answer without reading a
	// refused body.
	h.Set("Connection", "close")
	h.Set("Cache-Control", "no-store")
	// push.lua and Cyrus use POST, the OX driver uses PUT.
	if r.Method != http.MethodPost && r.Method != http.MethodPut {
		h.Set("Allow", "POST, PUT")
		e.refuse(w, r, &e.malformed, http.StatusMethodNotAllowed, "events are sent with POST or PUT")
		return
	}
	if !e.authorized(r) {
		h.Add("WWW-Authenticate", `Bearer realm="imapproxy events"`)
		h.Add("WWW-Authenticate", `Basic realm="imapproxy events"`)
		e.refuse(w, r, &e.unauthorized, http.StatusUnauthorized, "neither the bearer token nor the password is right")
		return
	}
	select {
	case e.readers <- struct{}{}:
		defer func() { <-e.readers }()
	default:
		e.refuse(w, r, &e.busy, http.StatusServiceUnavailable, "too many events at a time")
		return
	}
	body, status, why := e.body(w, r)
	if status != 0 {
		e.refuse(w, r, &e.malformed, status, why)
		return
	}
	format, notices, err := parseEvent(body)
	if err != nil {
		e.refuse(w, r, &e.malformed, http.StatusBadRequest, err.Error())
		return
	}
	e.counter(format).Add(1)
	e.last.Store(e.o.Now().UnixNano())
	e.pass(notices)
	w.WriteHeader(http.StatusNoContent)
}

// authorized takes a time that doesn't depend on the secrets.
func (e *Handler) authorized(r *http.Request) bool {
	_, given, basic := r.BasicAuth()
	if !basic {
		scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
		if !ok || !strings.EqualFold(scheme, "Bearer") {
			return false
		}
		given = strings.TrimSpace(token)
	}
	sum := sha256.Sum256([]byte(given))
	right := 0
	for _, secret := range *e.secrets.Load() {
		right |= subtle.ConstantTimeCompare(sum[:], secret[:])
	}
	return right == 1
}

// body reads the event. A status other than 0 is the answer to the request.
func (e *Handler) body(w http.ResponseWriter, r *http.Request) ([]byte, int, string) {
	if r.ContentLength > e.o.MaxBody {
		return nil, http.StatusRequestEntityTooLarge, "the event is too large"
	}
	// An error means that this writer has no deadlines, as in a test; the server's own deadlines still apply.
	// The connection is closed afterwards, so the deadline needn't be removed.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(e.o.ReadTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, e.o.MaxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, http.StatusRequestEntityTooLarge, "the event is too large"
	case err != nil:
		return nil, http.StatusRequestTimeout, "the event was cut off or came too slowly"
	}
	return body, 0, ""
}

// pass adds to the queue a hint for each notice that concerns a session parked here, and gives the other
// proxies each notice.
func (e *Handler) pass(notices []notice) {
	if len(notices) == 0 {
		e.impersonal.Add(1)
	}
	for _, n := range notices {
		if n.user == "" || len(n.user) > maxUserName {
			e.badUser.Add(1)
			continue
		}
		user, err := e.o.User(n.user)
		if err != nil || user == "" {
			e.badUser.Add(1)
			continue
		}
		e.o.Forward(user, n.mailbox)
		switch {
		case !e.o.Wanted(user):
			e.unwanted.Add(1)
		default:
			e.hints.Add(1)
			if n.mailbox == "" {
				e.widened.Add(1)
			}
			e.queue.Add(park.Hint{User: user, Mailbox: n.mailbox, Source: park.HintPush})
		}
	}
}

// refuse answers with a reason, and logs it unless the same reason was logged within the last minute.
func (e *Handler) refuse(w http.ResponseWriter, r *http.Request, count *atomic.Uint64, status int, why string) {
	count.Add(1)
	http.Error(w, why, status)
	now := e.o.Now()
	e.mu.Lock()
	e.refused, e.why = now, why
	last, seen := e.logged[why]
	silent := seen && now.Sub(last) < logEvery
	if !silent {
		e.logged[why] = now // the reasons are a handful of constants
	}
	e.mu.Unlock()
	if !silent {
		e.o.Log.Warn("an event was refused; more of the kind aren't logged within a minute",
			"reason", why, "status", status, "client", r.RemoteAddr)
	}
}

func (e *Handler) counter(f Format) *atomic.Uint64 {
	switch f {
	case FormatCyrus:
		return &e.cyrus
	case FormatOX:
		return &e.ox
	}
	return &e.own
}

// Stats returns the handler's counters.
func (e *Handler) Stats() Stats {
	e.mu.Lock()
	refused, why := e.refused, e.why
	e.mu.Unlock()
	var last time.Time
	if n := e.last.Load(); n != 0 {
		last = time.Unix(0, n)
	}
	return Stats{
		Last: last, Refused: refused, Why: why,
		Own: e.own.Load(), Cyrus: e.cyrus.Load(), OX: e.ox.Load(),
		Unauthorized: e.unauthorized.Load(), Malformed: e.malformed.Load(), Busy: e.busy.Load(),
		Hints: e.hints.Load(), Widened: e.widened.Load(), Unwanted: e.unwanted.Load(),
		BadUser: e.badUser.Load(), Impersonal: e.impersonal.Load(),
	}
}

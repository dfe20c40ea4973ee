package agree

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"imapproxy/routing"
)

// Mode says what a proxy does if it can't reach Consul for longer than its session lives.
type Mode uint8

const (
	// Serve: sessions, and users who aren't being moved, go on by the last known fleet. A user that the
	// other proxies move meanwhile may be on two backends.
	Serve Mode = iota
	// Hold: the proxy lets go of all backend connections before the other proxies may move any user. Clients
	// stay connected, and their commands wait.
	Hold
)

// Options say which proxy this is and how it behaves. ID, Storage and Users have no default.
type Options struct {
	ID      string          // id of this process; each process has a new one
	Storage routing.Storage // whether backends share the mail
	Users   string          // how users' names are made canonical; proxies that do it in the same way have the same text here
	About   About

	TTL         time.Duration // of the Consul session; 0 = 45 s
	AgreeWithin time.Duration // how long a claim may wait; 0 = 10 s
	CloseWithin time.Duration // how long closing all connections takes; 0 = 2 s
	Isolated    Mode
	Policy      Policy
	Buckets     int // 0 = routing.Buckets; a divisor of it
}

// Policy says how the next fleet is made from discovery's answer and the proxies' reports.
type Policy struct {
	PanicThreshold float64       // 0 = 0.5; see routing.Options
	PanicWindow    time.Duration // 0 = 1 min
	FailoverAfter  time.Duration // for how long most proxies must be unable to reach a backend before it is down; 0 = 30 s
	FlapDamp       time.Duration // how long a backend's state stays before it may change again; 0 = 10 s
	// MoveRate is how many users a second all proxies together move after a backend was drained or went
	// down; 0 = 100.
	MoveRate float64
	// RebalanceRate is the same after a backend was added, came back or changed its weight; 0 = 10.
	// Negative: no user is moved; users go to their new backend when they log in and have no connection
	// left.
	RebalanceRate float64
}

const (
	defaultTTL         = 45 * time.Second
	defaultAgreeWithin = 10 * time.Second
	defaultCloseWithin = 2 * time.Second
	defaultFlapDamp    = 10 * time.Second
	defaultMoveRate    = 100
	defaultRebalance   = 10
	minTTL             = 10 * time.Second // Consul's own minimum
)

func (o Options) withDefaults() (Options, error) {
	switch {
	case o.Storage != routing.Shared && o.Storage != routing.Separate:
		return o, errors.New("agree: storage must be shared or separate, there is no default")
	case o.Users == "":
		return o, errors.New("agree: the normalisation of users is missing")
	case validName(o.ID) != nil:
		return o, fmt.Errorf("agree: %q isn't a valid id", o.ID)
	}
	if o.Buckets == 0 {
		o.Buckets = routing.Buckets
	}
	if o.Buckets < 0 || o.Buckets > routing.Buckets || routing.Buckets%o.Buckets != 0 {
		return o, fmt.Errorf("agree: %d buckets don't divide %d", o.Buckets, routing.Buckets)
	}
	or := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	or(&o.TTL, defaultTTL)
	or(&o.AgreeWithin, defaultAgreeWithin)
	or(&o.CloseWithin, defaultCloseWithin)
	or(&o.Policy.PanicWindow, routing.DefaultPanicWindow)
	or(&o.Policy.FailoverAfter, routing.DefaultFailoverAfter)
	or(&o.Policy.FlapDamp, defaultFlapDamp)
	p := &o.Policy
	if p.PanicThreshold == 0 {
		p.PanicThreshold = routing.DefaultPanicThreshold
	}
	if !(p.PanicThreshold > 0 && p.PanicThreshold <= 1) { // written so that NaN fails
		return o, fmt.Errorf("agree: panic threshold %v is not between 0 and 1", p.PanicThreshold)
	}
	if p.MoveRate == 0 {
		p.MoveRate = defaultMoveRate
	}
	if p.RebalanceRate == 0 {
		p.RebalanceRate = defaultRebalance
	}
	if o.TTL < minTTL || o.TTL/100+o.CloseWithin >= o.TTL/2 {
		return o, fmt.Errorf("agree: a session's TTL of %v is too short", o.TTL)
	}
	return o, nil
}

// Settings are the options that can be changed while a Member runs.
type Settings struct {
	AgreeWithin time.Duration
	Isolated    Mode
	Policy      Policy
}

// words returns the settings as About has them.
func (o *Options) words() string {
	isolated := "serve"
	if o.Isolated == Hold {
		isolated = "hold"
	}
	p := o.Policy
	return fmt.Sprintf("agree_within=%v isolated=%s move_rate=%g rebalance_rate=%g panic_threshold=%g failover_after=%v flap_damp=%v",
		o.AgreeWithin, isolated, p.MoveRate, max(p.RebalanceRate, 0), p.PanicThreshold, max(p.FailoverAfter, 0), max(p.FlapDamp, 0))
}

// Differences returns the settings in which a proxy with these options differs from another one, as "NAME (here
// VALUE, there VALUE)". A proxy of an earlier release doesn't tell its settings.
func (o Options) Differences(other About) (all []string) {
	o.ID = "none" // check is no proxy
	o, err := o.withDefaults()
	if err != nil || other.Settings == "" {
		return nil
	}
	there := make(map[string]string)
	for _, one := range strings.Fields(other.Settings) {
		name, value, _ := strings.Cut(one, "=")
		there[name] = value
	}
	for _, one := range strings.Fields(o.words()) {
		name, value, _ := strings.Cut(one, "=")
		if is, ok := there[name]; ok && is != value {
			all = append(all, fmt.Sprintf("%s (here %s, there %s)", name, value, clip(is)))
		}
	}
	return all
}

// trust returns for how long a proxy may trust what it knows, counted from when its last successful renewal
// was sent. Other proxies remove the key of a session that has ended after they have seen it so for a whole
// TTL; clocks differ in speed by 1 % at most; closing all connections takes CloseWithin.
func (o *Options) trust() time.Duration { return o.TTL - o.TTL/100 - o.CloseWithin }

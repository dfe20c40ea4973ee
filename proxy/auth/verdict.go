package auth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"imapproxy/telemetry"
)

// Verdict is a source's answer. It is one of Accepted, Rejected, Unknown,
// AskBackend and Unavailable, by value; no other type can implement it.
type Verdict interface{ verdict() }

// Accepted is the verdict that the password or the token is right.
type Accepted struct {
	// User is the canonical name of the user as whom the client is logged in; empty: as
	// Credentials.User. Routing, limits, logs and the backend go by it.
	User string
	// Placement is the id or the address of the backend that the user belongs to, empty if the
	// source doesn't say.
	Placement string
	// Password is the user's password at the backend, with which the proxy logs in there whatever
	// its settings say; empty: the settings decide.
	Password telemetry.Secret
	// Extra holds the other fields of the user's entry. No secrets are in it.
	Extra map[string]string
	// Stamp is for Recheck: with it, the source can tell without a password that the user's entry didn't
	// change. Nil: it can't.
	Stamp any
}

// Rejected is the verdict that the user isn't let in.
type Rejected struct {
	Reason Reason
	// Wait is how long the source wants the client's answer delayed.
	Wait time.Duration
}

// Unknown is the verdict of a source that doesn't know the user; the next one is asked.
type Unknown struct{}

// AskBackend is the verdict that the backend decides, with the client's own credentials. No later source is
// asked.
type AskBackend struct{}

// Unavailable is the verdict of a source that can't decide now. No other source is asked, since this one may
// know the user; the client is told NO [UNAVAILABLE].
type Unavailable struct{ Err error }

func (Accepted) verdict()    {}
func (Rejected) verdict()    {}
func (Unknown) verdict()     {}
func (AskBackend) verdict()  {}
func (Unavailable) verdict() {}

// Source checks credentials. All methods are safe for concurrent use.
type Source interface {
	// Name is a short word for metrics and logs, of the configuration and never of a client.
	Name() string
	// Authenticate checks credentials made by NewCredentials. It returns when ctx
	// ends, with Unavailable.
	Authenticate(ctx context.Context, c Credentials) Verdict
	// Close frees what the source holds and waits for its goroutines. Calls of Authenticate that are in
	// progress complete normally.
	Close() error
}

// A Speaker is a Source that checks what the mechanisms that it names give, and no password. A source that is
// none checks passwords, and is never asked about anything else.
type Speaker interface {
	Mechanisms() []string
}

// passer is a source that checks passwords and is asked about tokens as well.
type passer interface{ passes(mechanism string) bool }

// passes says whether a source that checks passwords is asked about a token.
func passes(s Source, mechanism string) bool {
	p, ok := s.(passer)
	return ok && p.passes(mechanism)
}

// Asked returns those of the sources that are asked about a login by a mechanism.
func Asked(sources []Source, mechanism string) (asked []Source) {
	switch {
	case OfScram(mechanism):
		return askedForKeys(sources, mechanism)
	case mechanism == MechanismExternal:
		return slices.DeleteFunc(slices.Clone(sources), func(s Source) bool { _, ok := s.(Certifier); return !ok })
	}
	for _, s := range sources {
		if speaker, ok := s.(Speaker); ok && slices.Contains(speaker.Mechanisms(), mechanism) || !ok && (!OfToken(mechanism) || passes(s, mechanism)) {
			asked = append(asked, s)
		}
	}
	return asked
}

// A Keeper is a Source that may have keys for SCRAM.
type Keeper interface {
	// Scram is what the source does of SCRAM; nil: nothing.
	Scram() *Scram
	// Keys finds a user's keys for c.Mechanism, and the verdict if the client proves that it knows the password:
	// Accepted or Rejected. Unknown and Unavailable count at once. c has no password.
	Keys(ctx context.Context, c Credentials) (Keys, Verdict)
}

// askedForKeys is Asked for SCRAM: all sources that do something of it, so that the first that knows the user decides;
// none if no source does this mechanism.
func askedForKeys(sources []Source, mechanism string) (asked []Source) {
	does := false
	for _, s := range sources {
		if keeper, ok := s.(Keeper); ok && keeper.Scram() != nil {
			asked = append(asked, s)
			does = does || keeper.Scram().does(mechanism)
		}
	}
	if !does {
		return nil
	}
	return asked
}

// A Certifier is a Source that can say without a password whether a user may log in.
type Certifier interface {
	// Certified is the verdict about c.User, who has proved by a certificate who they are: not AskBackend. c has no password.
	Certified(ctx context.Context, c Credentials) Verdict
}

// ask asks one of the sources that Asked returns.
func ask(ctx context.Context, s Source, c Credentials) Verdict {
	if c.Mechanism == MechanismExternal {
		return s.(Certifier).Certified(ctx, c)
	}
	return s.Authenticate(ctx, c)
}

// Offered returns those of Mechanisms that the sources can do. MechanismPlain among them stands for the LOGIN
// command too.
func Offered(sources []Source) []string {
	return slices.DeleteFunc(Mechanisms(), func(m string) bool { return len(Asked(sources, m)) == 0 })
}

// A Challenger is a Source that says what a client needs to get a token that it accepts.
type Challenger interface {
	// Wants returns the URL of the provider's OpenID configuration and the scopes that a token must have,
	// separated by spaces; "" where there are none.
	Wants() (openIDConfiguration, scope string)
}

// TokenChallenge is what a client is told whose token wasn't accepted (RFC 7628 §3.2.2; for XOAUTH2 as its
// inventor does it), in base64. Clients get themselves another token when they read it.
func TokenChallenge(sources []Source, mechanism string) []byte {
	told := struct {
		Status        string `json:"status"`
		Schemes       string `json:"schemes,omitempty"`
		Scope         string `json:"scope,omitempty"`
		Configuration string `json:"openid-configuration,omitempty"`
	}{Status: "invalid_token"}
	if mechanism == MechanismXOAuth2 {
		told.Status, told.Schemes = "401", "bearer"
	}
	for _, s := range Asked(sources, mechanism) {
		if c, ok := s.(Challenger); ok {
			told.Configuration, told.Scope = c.Wants()
			break
		}
	}
	text, err := json.Marshal(told)
	if err != nil {
		panic(err) // a struct of strings
	}
	return base64.StdEncoding.AppendEncode(nil, text)
}

// Trier is a source that can be tried without a user's password.
type Trier interface {
	// Try asks the source as a login would, and says in a few words what has answered. Its errors
	// are a *Fault where it is known what would mend them. They hold no secret.
	Try(ctx context.Context) (what string, err error)
}

// CertifierTrier is a Certifier that is asked by a request of its own, and can be tried without a certificate.
type CertifierTrier interface {
	// TryCertified asks about a user who doesn't exist as a login by a certificate would. It is Trier.Try otherwise.
	TryCertified(ctx context.Context) (what string, err error)
}

// Fault is what is wrong with a source, and what to do about it.
type Fault struct {
	Err  error
	Mend string
}

func (f *Fault) Error() string { return f.Err.Error() }
func (f *Fault) Unwrap() error { return f.Err }

// Placer is a Source that can say without a password where it places a user.
type Placer interface {
	// Placed is the Accepted.Placement of the user, "" none; not known: the next source is asked.
	Placed(user string) (placement string, known bool)
}

// Lister is a Source that can list the users whom it places.
type Lister interface {
	// PlacedUsers returns the names of at most max of them, the same ones each time, in order.
	PlacedUsers(max int) []string
}

// idler is a source that can spend as much time on an unknown user as on a wrong password.
type idler interface {
	// Idle says whether it has spent that time: a source without passwords has none to compare with.
	Idle(ctx context.Context, c Credentials) (spent bool, err error)
}

// holder is a source that can tell without a password whether a user's entry is still the one behind a Stamp,
// and whether the user has none any more.
type holder interface {
	entryOf(user string, stamp any) (same, unknown bool)
}

// versioned is a source that counts its changes.
type versioned interface {
	version() uint64
}

// Version changes when a source has changed; then users who were accepted before may not be accepted any
// more. Sources that don't count changes are ignored.
func Version(sources []Source) (v uint64) {
	for _, s := range sources {
		if s, ok := s.(versioned); ok {
			v += s.version()
		}
	}
	return v
}

// Holds says, without a password, whether the sources would accept the user again as they did when one of
// them gave the stamp. False: it isn't known.
func Holds(sources []Source, user string, stamp any) bool {
	for _, s := range Asked(sources, MechanismPlain) { // a stamp is of a password's verdict
		h, ok := s.(holder)
		if !ok || stamp == nil {
			return false
		}
		if same, unknown := h.entryOf(user, stamp); same || !unknown {
			return same
		}
	}
	return false
}

var (
	errNoSource  = errors.New("no source of credentials")
	errNoVerdict = errors.New("the source gave no verdict")
)

// First asks the sources in turn. The first that knows the user decides: a wrong password isn't tried with
// later sources. It returns the verdict, never Unknown, and the name of the source that gave it.
//
// If no source knows the user, the verdict is Rejected{ReasonUnknownUser} from the last source, after as much
// work as a wrong password costs, so that the time doesn't show whether a user has an account. (First does
// this work and not each source, so that it isn't done twice for users of a later source.)
func First(ctx context.Context, sources []Source, c Credentials) (v Verdict, source string) {
	sources = Asked(sources, c.Mechanism)
	for _, s := range sources {
		switch v := ask(ctx, s, c).(type) {
		case Unknown:
			source = s.Name()
		case nil:
			return Unavailable{errNoVerdict}, s.Name()
		default:
			return v, s.Name()
		}
	}
	if len(sources) == 0 {
		return Unavailable{errNoSource}, "none"
	}
	if c.Mechanism == MechanismExternal { // a user with a certificate may learn that they aren't known
		return Rejected{Reason: c.notKnown()}, source
	}
	for _, s := range sources {
		if s, ok := s.(idler); ok {
			spent, err := s.Idle(ctx, c)
			if err != nil {
				return Unavailable{err}, source
			}
			if spent {
				break
			}
		}
	}
	return Rejected{Reason: c.notKnown()}, source
}

// notKnown is why a login fails that no source knows.
func (c Credentials) notKnown() Reason {
	if OfToken(c.Mechanism) {
		return ReasonBadToken
	}
	return ReasonUnknownUser
}

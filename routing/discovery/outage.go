package discovery

import (
	"log/slog"
	"time"
)

// outage logs the first error of a run, and later ones once a minute. It logs the end of the run if it has
// logged the error. So an agent that comes and goes doesn't fill the log. Errors of a token without
// permissions are logged apart from those of an agent that can't be reached.
type outage struct {
	log    *slog.Logger
	words  outageWords
	since  time.Time // zero: no error
	count  int
	said   bool
	denied bool      // the last line was about a token without permissions
	logged time.Time // when the last error was logged, also in an earlier run
}

// outageWords are what is logged at the begin and at the end of a run of errors, and for what the proxy uses the source.
type outageWords struct{ failed, worked, use string }

// ofConsul returns the words about Consul.
func ofConsul(use string) outageWords {
	return outageWords{"consul doesn't answer; what is known stays", "consul answers again", use}
}

func (o *outage) failed(err error) {
	now := time.Now()
	if o.since.IsZero() {
		o.since = now
	}
	o.count++
	no := denied(err)
	if now.Sub(o.logged) < time.Minute && (no == o.denied || !no) {
		return
	}
	o.said, o.denied, o.logged = true, no, now
	if no {
		o.log.Error("consul denies what the proxy has to read; what is known stays, and the token's file is read again at each try", "for", o.words.use,
			"error", clip(err.Error(), 300), "errors", o.count, "since", o.since)
		return
	}
	o.log.Warn(o.words.failed, "for", o.words.use, "error", clip(err.Error(), 300), "errors", o.count, "since", o.since)
}

func (o *outage) worked() {
	if o.said {
		o.log.Info(o.words.worked, "for", o.words.use, "errors", o.count, "after", time.Since(o.since).Round(time.Millisecond))
	}
	o.since, o.count, o.said, o.denied = time.Time{}, 0, false, false
}

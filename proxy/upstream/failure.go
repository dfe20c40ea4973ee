package upstream

import (
	"context"
	"errors"
	"fmt"
)

// stageError is an error and its stage, until failure turns it into one of this package's types.
type stageError struct {
	stage string
	err   error
	sent  bool // bytes of the login had been sent
}

func (e *stageError) Error() string { return e.stage + ": " + e.err.Error() }
func (e *stageError) Unwrap() error { return e.err }

func atStage(stage string, err error) error { return &stageError{stage: stage, err: err} }

// afterLogin is atStage for errors after bytes of the login were sent.
func afterLogin(stage string, err error) error {
	return &stageError{stage: stage, err: err, sent: true}
}

// failure is the only function that makes an *Unavailable of an error.
func failure(ctx context.Context, t Target, err error) error {
	var refused *Refused
	if errors.As(err, &refused) {
		return refused
	}
	out := &Unavailable{Backend: t.shown(), Stage: StageLogin, Err: err}
	var stage *stageError
	if errors.As(err, &stage) {
		out.Stage, out.Err, out.sent = stage.stage, stage.err, stage.sent
	}
	var said *answerError
	if errors.As(err, &said) {
		out.Code, out.Text, out.Err, out.args, out.alerts = said.code, said.text, said.err, said.args, said.alerts
		return out
	}
	// The socket was closed because ctx ended: the cause is ctx's.
	switch cause := context.Cause(ctx); {
	case cause == nil:
	case errors.Is(cause, ErrTimeout): // a limit of the Dialer's
		out.Err = cause
	default:
		out.Err = fmt.Errorf("%w: %w", errGaveUp, ctx.Err())
	}
	return out
}

// Outcome is the label of a login that ended with err, as the metrics have it.
func Outcome(err error) string { return outcome(err) }

// outcome returns an error's label in the metrics, from a closed set.
func outcome(err error) string {
	var refused *Refused
	var down *Unavailable
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &down) && down.Fault() == FaultFull:
		return "full"
	case IsShortage(err):
		return "shortage"
	case errors.As(err, &refused):
		return "refused"
	case errors.Is(err, ErrTimeout):
		return "timeout"
	case errors.Is(err, errGaveUp), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "cancelled"
	case errors.As(err, &down):
		return down.Stage
	}
	return "error"
}

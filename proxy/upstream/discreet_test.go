package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"imapproxy/telemetry"
)

// What a backend says of a login names the user in its own spelling. Where names mustn't be written, the response code is left of it.
func TestTheTextOfARefusalCanBeLeftOut(t *testing.T) {
	const text = "No such mailbox user.jane_doe"
	errs := map[string]error{
		"refused":     &Refused{Backend: "b1", Code: "AUTHENTICATIONFAILED", Text: text},
		"unavailable": &Unavailable{Backend: "b1", Stage: StageLogin, Code: "UNAVAILABLE", Text: text, Err: errNo},
		"without":     &Unavailable{Backend: "b1", Stage: StageGreeting, Text: text},
		"within":      fmt.Errorf("again: %w", &Unavailable{Backend: "b1", Stage: StageVerify, Err: &answerError{answer{code: "NOPERM", text: text}, errBye}}),
		"joined":      errors.Join(errBad, &Refused{Backend: "b1", Text: text}),
	}
	left := map[string]string{"refused": "[AUTHENTICATIONFAILED]", "unavailable": "[UNAVAILABLE]", "without": "greeting", "within": "[NOPERM]", "joined": "BAD"}
	for _, mode := range []string{telemetry.PersonalFull, telemetry.PersonalHashed, telemetry.PersonalNone} {
		for name, err := range errs {
			var out bytes.Buffer
			tel, failed := telemetry.Start(t.Context(), telemetry.Options{LogWriter: &out, LogLevel: slog.LevelInfo, Personal: mode, PersonalKey: "a key"})
			if failed != nil {
				t.Fatal(failed)
			}
			tel.Log.Warn("login refused by the backend", "user", "jane", "error", err)
			if line := out.String(); strings.Contains(line, "jane_doe") != (mode == telemetry.PersonalFull) || !strings.Contains(line, left[name]) {
				t.Errorf("%s, %s: %s", mode, name, line)
			}
			if err := tel.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
}

package telemetry

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"text/template"
)

// theSecret is what must not be seen, in any of the spellings of leaks.
const theSecret = "hunter2!pw"

// leaks returns the spelling of the secret that a text contains, or "".
func leaks(text string) string {
	lower := strings.ToLower(text)
	for _, spelling := range []string{
		theSecret,
		fmt.Sprintf("%x", theSecret),  // hexadecimal
		fmt.Sprintf("% x", theSecret), // the same with blanks
		strings.Trim(fmt.Sprint([]byte(theSecret)), "[]"),           // decimal bytes
		strings.ToLower(fmt.Sprintf("%U", []rune(theSecret)))[1:10], // code points
		"aHVudGVyMiFwdw", // base64
	} {
		if strings.Contains(lower, strings.ToLower(spelling)) {
			return spelling
		}
	}
	return ""
}

// login is a struct as a careless line would print it.
type login struct {
	User     string
	Password Secret
	Master   *Secret
	More     map[string]Secret
	List     []Secret
	Any      any
}

func carelessLogin() login {
	s := Secret(theSecret)
	return login{User: "alice", Password: s, Master: &s, More: map[string]Secret{"a": s}, List: []Secret{s}, Any: s}
}

func TestASecretIsNeverPrintedByAnyVerb(t *testing.T) {
	s := Secret(theSecret)
	for _, value := range []any{s, &s, carelessLogin(), []Secret{s}, map[Secret]Secret{s: s}, [1]Secret{s}, struct{ Secret }{s}} {
		for _, flags := range []string{"", "+", "#", " ", "-20", "020", ".3", "+#"} {
			// Not p and w: go vet refuses them, see Secret.
			for _, verb := range "vTtbcdoOqxXUeEfFgGs!z" {
				format := "%" + flags + string(verb)
				if spelling := leaks(fmt.Sprintf(format, value)); spelling != "" {
					t.Errorf("%s of %T prints %s", format, value, spelling)
				}
			}
		}
		for _, text := range []string{fmt.Sprint(value), fmt.Sprintln(value), errors.Join(fmt.Errorf("login: %v", value)).Error()} {
			if leaks(text) != "" {
				t.Errorf("%T prints %s", value, text)
			}
		}
	}
	if got := fmt.Sprintf("%v %s %q %#v", s, s, s, s); strings.Count(got, redacted) != 4 {
		t.Errorf("printed %q, want it to say four times that something was left out", got)
	}
	if s.Reveal() != theSecret {
		t.Errorf("Reveal returned %q", s.Reveal())
	}
}

func TestASecretIsNeverEncoded(t *testing.T) {
	s := Secret(theSecret)
	value := carelessLogin()
	asJSON, err := json.Marshal(map[string]any{"a": value, "b": s})
	if err != nil || leaks(string(asJSON)) != "" || !bytes.Contains(asJSON, []byte(redacted)) {
		t.Errorf("JSON: %s, %v", asJSON, err)
	}
	type element struct {
		Attr Secret `xml:"attr,attr"`
		Body Secret
	}
	asXML, err := xml.Marshal(element{s, s})
	if err != nil || leaks(string(asXML)) != "" || !bytes.Contains(asXML, []byte(redacted)) {
		t.Errorf("XML: %s, %v", asXML, err)
	}
	var page strings.Builder
	if err := template.Must(template.New("").Parse(`{{.Password}} {{printf "%x" .Password}} {{.}}`)).Execute(&page, value); err != nil || leaks(page.String()) != "" {
		t.Errorf("template: %s, %v", page.String(), err)
	}
}

func TestASecretIsNeverLogged(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		var out bytes.Buffer
		tel := startLogging(t, &out, format)
		s := Secret(theSecret)
		tel.Log.Info("a", "p", s, "ptr", &s, "login", carelessLogin(), "list", []Secret{s})
		tel.Log.With("p", s).WithGroup("g").Info("b", slog.Group("h", "p", s))
		tel.Log.Error("c", "error", fmt.Errorf("cannot log in with %v: %w", s, errors.New("refused")))
		// By name, if code logs a plain string.
		tel.Log.Info("d", "password", theSecret, slog.Group("auth", "Token", theSecret, "authorization", []byte(theSecret)))
		if spelling := leaks(out.String()); spelling != "" {
			t.Errorf("%s log prints %s:\n%s", format, spelling, out.String())
		}
		if got := strings.Count(out.String(), redacted); got < 9 {
			t.Errorf("%s log says %d times that something was left out, want at least 9:\n%s", format, got, out.String())
		}
	}
}

func TestOrdinaryAttributesAreLogged(t *testing.T) {
	var out bytes.Buffer
	tel := startLogging(t, &out, "text")
	tel.Log.Info("x", "pass_count", 3, slog.Group("token", "kind", "consul"), "user", "bob")
	for _, want := range []string{"pass_count=3", "token.kind=consul", "user=bob"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("log lacks %s: %s", want, out.String())
		}
	}
}

package events_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"imapproxy/proxy/park"
	"imapproxy/proxy/park/events"
	"imapproxy/telemetry"
)

// A backend posts that a mailbox has changed, and the handler makes it a hint.
func ExampleHandler() {
	const secret = "an-example-of-a-long-secret-0123456789"
	hints := park.NewHintQueue(park.HintQueueOptions{})
	handler, err := events.New(events.Options{Secrets: []telemetry.Secret{secret}}, hints)
	if err != nil {
		fmt.Println(err)
		return
	}
	post := func(token string) {
		r := httptest.NewRequest(http.MethodPost, "/v1/events", strings.NewReader(`{"user": "alice", "events": [{"mailbox": "INBOX"}]}`))
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		fmt.Println(w.Code)
	}
	post("a guess")
	post(secret)
	h, ok := hints.TryNext()
	fmt.Println(h.User, h.Mailbox, ok)
	// Output:
	// 401
	// 204
	// alice INBOX true
}

package authpolicy_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"

	"imapproxy/proxy/auth"
	"imapproxy/proxy/auth/authpolicy"
)

// A server that refuses each login says why, and is told that a login ended so.
func ExampleClient() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		fmt.Println(r.URL.RawQuery, string(text))
		fmt.Fprint(w, `{"status": -1, "msg": "too many wrong passwords"}`)
	}))
	defer server.Close()
	client, err := authpolicy.New(authpolicy.Options{URL: server.URL, HashNonce: "of-the-fleet", HashTruncate: 12, CheckBefore: true, Report: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	login := authpolicy.Login{Credentials: auth.Credentials{User: "alice", Password: "guess", Client: netip.MustParseAddr("192.0.2.7")}, Session: "s1"}
	said := client.Before(context.Background(), login)
	fmt.Println(said.Refused, said.Msg)
	client.Report(login, false, said.Refused)
	_ = client.Close() // sends the report
	// Output:
	// command=allow {"device_id":"","login":"alice","protocol":"imap","pwhash":"0d80","remote":"192.0.2.7","session_id":"s1","tls":false}
	// true too many wrong passwords
	// command=report {"device_id":"","login":"alice","protocol":"imap","pwhash":"0d80","remote":"192.0.2.7","session_id":"s1","success":false,"policy_reject":true,"tls":false}
}

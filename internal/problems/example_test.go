package problems_test

import (
	"fmt"
	"time"

	"imapproxy/internal/problems"
)

// Clients can't log in now: that comes before what will be a problem in some days.
func ExampleFind() {
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	for _, p := range problems.Find(&problems.Snapshot{
		Now: now, Started: now.Add(-time.Hour), Version: "1.2",
		Backends: []problems.Backend{
			{Name: "imap1", State: "down", Reason: "connection refused", Since: now.Add(-time.Minute)},
		},
		Certificates: []problems.Cert{{Of: "imaps", NotBefore: now.Add(-80 * 24 * time.Hour), NotAfter: now.Add(3 * 24 * time.Hour)}},
	}) {
		fmt.Printf("%v, critical: %v, %s\n", p.Kind, p.Critical, p.Text)
	}
	// Output:
	// no_backend, critical: true, no backend is up: logins are refused with NO [UNAVAILABLE]
	// backend_down, critical: false, is down (connection refused)
	// certificate, critical: false, the certificate ends in 3 days, at 2026-03-05 12:00:00 UTC
}

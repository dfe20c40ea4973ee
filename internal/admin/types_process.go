package admin

import "time"

// Process is what a proxy's process was given.
type Process struct {
	Certificates []CertificateEnd
	Resources    []Resource
}

// CertificateEnd says when a certificate or a revocation list ends.
type CertificateEnd struct {
	Of   string    `json:"of"`   // the listener, an authority for clients' certificates, or admin
	List bool      `json:"list"` // a revocation list
	Ends time.Time `json:"ends"`
}

// Resource is something of which there is a limit.
type Resource struct {
	Name  string `json:"name"` // descriptors, memory (bytes), sessions (that have logged in)
	Used  int64  `json:"used"`
	Limit int64  `json:"limit"` // 0: none is known
}

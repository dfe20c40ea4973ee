package admin

import (
	"fmt"
	"net/http"
	"runtime/pprof"
	"strconv"
	"time"
)

// debugPath is where the profiles of the runtime are, below net/http/pprof's names, which `go tool pprof` knows.
const debugPath = "/debug/pprof/"

// Bounds of a CPU profile, which has to end before writeTimeout.
const (
	profileFor  = 10 * time.Second // if the caller says nothing
	profileMost = 25 * time.Second
)

// debugRoutes adds the profiles. They need the operator's token: they show no user, but cost the process time.
func (s *Server) debugRoutes(r map[string]route) {
	for _, name := range []string{"goroutine", "heap", "allocs", "mutex", "block", "threadcreate"} {
		r[debugPath+name] = route{serve: s.profile(name), owner: true}
	}
	r[debugPath+"profile"] = route{serve: s.cpuProfile, owner: true}
}

// profile serves one of the runtime's profiles: debug=0 (the default) is for `go tool pprof`, 1 is text, and 2 is for
// goroutine: the stack of each.
func (s *Server) profile(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.hasToken(w) {
			return
		}
		q, ok := parameters(w, r, "debug")
		if !ok {
			return
		}
		debug := 0
		if text := q.Get("debug"); text != "" {
			var err error
			if debug, err = strconv.Atoi(text); err != nil || debug < 0 || debug > 2 {
				fail(w, http.StatusBadRequest, CodeBadRequest, "debug is 0, 1 or 2")
				return
			}
		}
		asProfile(w, debug > 0)
		_ = pprof.Lookup(name).WriteTo(w, debug) // an error means that the client is gone
	}
}

// cpuProfile measures where the CPU's time goes, for as many seconds as the caller says.
func (s *Server) cpuProfile(w http.ResponseWriter, r *http.Request) {
	if !s.hasToken(w) {
		return
	}
	q, ok := parameters(w, r, "seconds")
	if !ok {
		return
	}
	last := profileFor
	if text := q.Get("seconds"); text != "" {
		n, err := strconv.Atoi(text)
		if last = time.Duration(n) * time.Second; err != nil || last <= 0 || last > profileMost {
			fail(w, http.StatusBadRequest, CodeBadRequest, fmt.Sprintf("seconds is a number from 1 to %d", int(profileMost/time.Second)))
			return
		}
	}
	if r.Method == http.MethodHead {
		return
	}
	asProfile(w, false)
	if err := pprof.StartCPUProfile(w); err != nil {
		fail(w, http.StatusConflict, CodeRefused, "another CPU profile is being made: ask again when it has ended")
		return
	}
	defer pprof.StopCPUProfile()
	end := time.NewTimer(last)
	defer end.Stop()
	select {
	case <-end.C:
	case <-r.Context().Done():
	}
}

// asProfile sets the headers of a profile.
func asProfile(w http.ResponseWriter, text bool) {
	if text {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	} else {
		w.Header().Set("Content-Type", "application/octet-stream")
	}
}

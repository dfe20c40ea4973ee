package admin

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// topPath is the path of what happens now, topMost of how many seconds it tells at most.
const (
	topPath = "/v1/top"
	topMost = 300
)

// top is GET /v1/top.
func (s *Server) top(w http.ResponseWriter, r *http.Request) {
	q, ok := parameters(w, r, "seconds")
	if !ok {
		return
	}
	seconds := 10
	if text := q.Get("seconds"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > topMost {
			fail(w, http.StatusBadRequest, CodeBadRequest, fmt.Sprintf("seconds: want a number from 1 to %d", topMost))
			return
		}
		seconds = n
	}
	latest := s.opts.Past.Latest(s.opts.Now().Add(-time.Duration(seconds) * time.Second))
	out := Top{Seconds: latest.For.Seconds(), Commands: latest.Commands, Users: latest.Users, Slowest: []TopCommand{}}
	if out.Users == nil {
		out.Users = []TopUser{}
	}
	for _, c := range latest.Slowest {
		out.Slowest = append(out.Slowest, s.slowCommand(c))
	}
	reply(w, http.StatusOK, out)
}

// Top asks for /v1/top of the last seconds.
func (c *Client) Top(ctx context.Context, seconds int) (answer Top, err error) {
	return answer, c.get(ctx, topPath, url.Values{"seconds": {strconv.Itoa(seconds)}}, &answer)
}

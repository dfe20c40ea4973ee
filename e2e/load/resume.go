package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// resume prints what it costs the proxy when all its idle clients send DONE and a FETCH, -ramp of them at a time: parked, and beside that
// attached ones (with -attached: only these).
func resume(o options, out io.Writer) error {
	c, err := crowd(o, o.settings())
	if c != nil {
		defer c.close()
	}
	if err != nil {
		return err
	}
	pid := c.proxy.Process.Pid
	for round := range max(o.Rounds, 1) {
		want, err := c.settled()
		if err != nil {
			return err
		}
		began, err := cpu(pid)
		if err != nil {
			return err
		}
		var profiling sync.WaitGroup
		if round == 0 {
			profiling.Go(func() { err = c.proxy.profile(o, "profile?seconds=3", "resume.pb.gz") })
		}
		back, backErr := c.crowd.order(order{Back: true, Ramp: o.Ramp})
		ended, cpuErr := cpu(pid)
		profiling.Wait()
		for _, e := range []error{err, backErr, cpuErr} {
			if e != nil {
				return e
			}
		}
		fmt.Fprintf(out, "%d %s clients come back, %d at a time: proxy's CPU %.0f µs each, p50 %v, p90 %v, p99 %v, in all %v\n", back.Clients, want, o.Ramp,
			float64((ended-began).Microseconds())/float64(back.Clients), back.P50.Round(10*time.Microsecond), back.P90.Round(10*time.Microsecond),
			back.P99.Round(10*time.Microsecond), back.Took.Round(time.Millisecond))
		if _, err := c.crowd.order(order{Idle: true, Ramp: o.Ramp}); err != nil {
			return err
		}
	}
	return nil
}

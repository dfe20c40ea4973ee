package main

import (
	"errors"
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
	for round := range max(o.Rounds, 1) {
		want, err := c.settled()
		if err != nil {
			return err
		}
		back, each, err := c.comeBack(round == 0)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%d %s clients come back, %d at a time: proxy's CPU %.0f µs each, p50 %v, p90 %v, p99 %v, in all %v\n", back.Clients, want, o.Ramp,
			each, back.P50.Round(10*time.Microsecond), back.P90.Round(10*time.Microsecond),
			back.P99.Round(10*time.Microsecond), back.Took.Round(time.Millisecond))
		if err := c.goIdle(); err != nil {
			return err
		}
	}
	return nil
}

// comeBack has all clients send DONE and a FETCH. It returns the proxy's CPU for each of them, in µs.
func (c *crowded) comeBack(profiled bool) (back outcome, each float64, err error) {
	pid := c.proxy.Process.Pid
	began, err := cpu(pid)
	if err != nil {
		return back, 0, err
	}
	var profiling sync.WaitGroup
	var failed error
	if profiled {
		profiling.Go(func() { failed = c.proxy.profile(c.o, "profile?seconds=3", "resume.pb.gz") })
	}
	back, err = c.crowd.order(order{Back: true, Ramp: c.o.Ramp})
	ended, cpuErr := cpu(pid)
	profiling.Wait()
	return back, float64((ended - began).Microseconds()) / float64(max(back.Clients, 1)), errors.Join(err, cpuErr, failed)
}

// goIdle has all clients go into IDLE again.
func (c *crowded) goIdle() error {
	_, err := c.crowd.order(order{Idle: true, Ramp: c.o.Ramp})
	return err
}
